"""A model family: OLMo 1, which TransformerLens has an adapter for."""

import tempfile
from pathlib import Path

from emocircuits.models import FAMILIES, FamilyCard, load_model
from emocircuits.models.tiny import write_tiny_model

FAMILIES.add(
    FamilyCard(
        name="olmo",
        summary="OLMo 1: the form of Llama with LayerNorm without weights",
        architecture="OlmoForCausalLM",
        model_type="olmo",
        bos="never",
    )
)


def example(run: Path) -> None:
    """A random model of the family loads through the usual door and passes every load-time check."""
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(str(write_tiny_model("olmo", folder)))
    assert all(check.passed for check in model.checks) and len(model.checks) >= 6
    assert model.sites == tuple(f"blocks.{layer}.hook_resid_post" for layer in range(3))
