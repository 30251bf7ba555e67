"""The Gemma 2 family."""

from emocircuits.models.family import FAMILIES, FamilyCard

CARD = FamilyCard(
    name="gemma2", architecture="Gemma2ForCausalLM", model_type="gemma2",
    tiny={"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8},
)
FAMILIES.register(CARD.name, CARD)
