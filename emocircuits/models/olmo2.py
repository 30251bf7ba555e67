"""The OLMo 2 family."""

from emocircuits.models.family import FAMILIES, ChatFormat, FamilyCard

CARD = FamilyCard(
    name="olmo2",
    architecture="Olmo2ForCausalLM",
    model_type="olmo2",
    bos="never",
    chat=ChatFormat(
        "<|user|>\n{text}\n", "<|assistant|>\n{text}<|endoftext|>\n", "<|assistant|>\n", "<|endoftext|>"
    ),
)
FAMILIES.register(CARD.name, CARD)
