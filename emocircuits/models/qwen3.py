"""The Qwen 3 family."""

from emocircuits.models.family import FAMILIES, FamilyCard

CARD = FamilyCard(
    name="qwen3", architecture="Qwen3ForCausalLM", model_type="qwen3", bos="never",
    tiny={"num_key_value_heads": 2, "head_dim": 8},
)
FAMILIES.register(CARD.name, CARD)
