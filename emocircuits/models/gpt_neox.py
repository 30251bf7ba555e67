"""The GPT-NeoX (Pythia) family."""

from emocircuits.models.family import FAMILIES, FamilyCard

CARD = FamilyCard(
    name="gpt_neox",
    architecture="GPTNeoXForCausalLM",
    model_type="gpt_neox",
    config=(
        "hidden_dropout",
        "classifier_dropout",
        "layer_norm_eps",
        "use_parallel_residual",
        "rotary_pct",
        "rotary_emb_base",
    ),
)
FAMILIES.register(CARD.name, CARD)
