"""The Mistral family."""

from emocircuits.models.family import FAMILIES, ChatFormat, FamilyCard

CARD = FamilyCard(
    name="mistral",
    architecture="MistralForCausalLM",
    model_type="mistral",
    tiny={"num_key_value_heads": 2, "sliding_window": 8},
    config=(
        "head_dim",
        "sliding_window",
    ),
    chat=ChatFormat("[INST] {text} [/INST]", " {text}</s>", "", "[INST]"),
)
FAMILIES.register(CARD.name, CARD)
