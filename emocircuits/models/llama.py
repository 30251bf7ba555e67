"""The Llama family."""

from emocircuits.models.family import FAMILIES, FamilyCard

CARD = FamilyCard(name="llama", architecture="LlamaForCausalLM", model_type="llama", tiny={"num_key_value_heads": 2})
FAMILIES.register(CARD.name, CARD)
