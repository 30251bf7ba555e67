"""The Llama family."""

from emocircuits.models.family import FAMILIES, ChatFormat, FamilyCard

CARD = FamilyCard(
    name="llama",
    architecture="LlamaForCausalLM",
    model_type="llama",
    tiny={"num_key_value_heads": 2},
    config=(
        "head_dim",
        "mlp_bias",
    ),
    chat=ChatFormat(
        "<|start_header_id|>user<|end_header_id|>\n\n{text}<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n{text}<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|start_header_id|>",
    ),
)
FAMILIES.register(CARD.name, CARD)
