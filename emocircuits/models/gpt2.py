"""The GPT-2 family."""

from emocircuits.models.family import FAMILIES, FamilyCard

CARD = FamilyCard(name="gpt2", architecture="GPT2LMHeadModel", model_type="gpt2")
FAMILIES.register(CARD.name, CARD)
