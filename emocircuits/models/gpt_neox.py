"""The GPT-NeoX (Pythia) family."""

from emocircuits.models.family import FAMILIES, FamilyCard

CARD = FamilyCard(name="gpt_neox", architecture="GPTNeoXForCausalLM", model_type="gpt_neox")
FAMILIES.register(CARD.name, CARD)
