"""The Phi 3 family."""

from emocircuits.models.family import FAMILIES, FamilyCard

CARD = FamilyCard(name="phi3", architecture="Phi3ForCausalLM", model_type="phi3")
FAMILIES.register(CARD.name, CARD)
