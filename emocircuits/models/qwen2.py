"""The Qwen 2 and 2.5 family."""

from emocircuits.models.family import FAMILIES, ChatFormat, FamilyCard

CARD = FamilyCard(
    name="qwen2",
    architecture="Qwen2ForCausalLM",
    model_type="qwen2",
    bos="never",
    tiny={"num_key_value_heads": 2},
    config=(
        "use_sliding_window",
        "sliding_window",
        "max_window_layers",
        "layer_types",
        "use_mrope",
    ),
    chat=ChatFormat(
        "<|im_start|>user\n{text}<|im_end|>\n",
        "<|im_start|>assistant\n{text}<|im_end|>\n",
        "<|im_start|>assistant\n",
        "<|im_start|>",
    ),
)
FAMILIES.register(CARD.name, CARD)
