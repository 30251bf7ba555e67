"""The GPT-2 family."""

from emocircuits.models.family import FAMILIES, FamilyCard

CARD = FamilyCard(
    name="gpt2",
    architecture="GPT2LMHeadModel",
    model_type="gpt2",
    config=(
        "n_positions",
        "n_ctx",
        "n_embd",
        "n_layer",
        "n_head",
        "n_inner",
        "activation_function",
        "resid_pdrop",
        "embd_pdrop",
        "attn_pdrop",
        "layer_norm_epsilon",
        "summary_type",
        "summary_use_proj",
        "summary_activation",
        "summary_proj_to_labels",
        "summary_first_dropout",
    ),
)
FAMILIES.register(CARD.name, CARD)
