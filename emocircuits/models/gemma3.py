"""The Gemma 3 (text) family."""

from emocircuits.models.family import FAMILIES, ChatFormat, FamilyCard

CARD = FamilyCard(
    name="gemma3",
    architecture="Gemma3ForCausalLM",
    model_type="gemma3_text",
    tiny={"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8},
    config=(
        "head_dim",
        "hidden_activation",
        "query_pre_attn_scalar",
        "sliding_window",
        "layer_types",
        "sliding_window_pattern",
        "_sliding_window_pattern",
        "rope_local_base_freq",
        "cache_implementation",
    ),
    chat=ChatFormat(
        "<start_of_turn>user\n{text}<end_of_turn>\n",
        "<start_of_turn>model\n{text}<end_of_turn>\n",
        "<start_of_turn>model\n",
        "<start_of_turn>",
    ),
)
FAMILIES.register(CARD.name, CARD)
