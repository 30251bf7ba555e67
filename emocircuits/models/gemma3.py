"""The Gemma 3 (text) family."""

from emocircuits.models.family import FAMILIES, FamilyCard

CARD = FamilyCard(
    name="gemma3", architecture="Gemma3ForCausalLM", model_type="gemma3_text",
    tiny={"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8},
)
FAMILIES.register(CARD.name, CARD)
