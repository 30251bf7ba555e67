"""The OLMo 2 family."""

from emocircuits.models.family import FAMILIES, FamilyCard

CARD = FamilyCard(name="olmo2", architecture="Olmo2ForCausalLM", model_type="olmo2", bos="never")
FAMILIES.register(CARD.name, CARD)
