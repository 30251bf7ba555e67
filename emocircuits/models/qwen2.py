"""The Qwen 2 and 2.5 family."""

from emocircuits.models.family import FAMILIES, FamilyCard

CARD = FamilyCard(
    name="qwen2", architecture="Qwen2ForCausalLM", model_type="qwen2", bos="never",
    tiny={"num_key_value_heads": 2},
)
FAMILIES.register(CARD.name, CARD)
