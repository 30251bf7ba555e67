"""The Qwen 3 family."""

from emocircuits.models.family import FAMILIES, ChatFormat, FamilyCard

CARD = FamilyCard(
    name="qwen3",
    architecture="Qwen3ForCausalLM",
    model_type="qwen3",
    bos="never",
    tiny={"num_key_value_heads": 2, "head_dim": 8},
    config=(
        "head_dim",
        "use_sliding_window",
        "sliding_window",
        "max_window_layers",
        "layer_types",
    ),
    chat=ChatFormat(
        "<|im_start|>user\n{text}<|im_end|>\n",
        "<|im_start|>assistant\n{text}<|im_end|>\n",
        "<|im_start|>assistant\n",
        "<|im_start|>",
    ),
)
FAMILIES.register(CARD.name, CARD)
