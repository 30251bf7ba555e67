"""The Phi 3 family."""

from emocircuits.models.family import FAMILIES, ChatFormat, FamilyCard

CARD = FamilyCard(
    name="phi3",
    architecture="Phi3ForCausalLM",
    model_type="phi3",
    config=(
        "resid_pdrop",
        "embd_pdrop",
        "sliding_window",
        "original_max_position_embeddings",
        "partial_rotary_factor",
    ),
    chat=ChatFormat(
        "<|user|>\n{text}<|end|>\n", "<|assistant|>\n{text}<|end|>\n", "<|assistant|>\n", "<|assistant|>"
    ),
)
FAMILIES.register(CARD.name, CARD)
