"""The Mistral family."""

from emocircuits.models.family import FAMILIES, FamilyCard

CARD = FamilyCard(
    name="mistral", architecture="MistralForCausalLM", model_type="mistral",
    tiny={"num_key_value_heads": 2, "sliding_window": 8},
)
FAMILIES.register(CARD.name, CARD)
