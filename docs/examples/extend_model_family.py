"""A model family: OLMo 1, which TransformerLens has an adapter for."""

import tempfile
from pathlib import Path

from transformers import OlmoConfig, OlmoForCausalLM

import emocircuits as emo
from emocircuits import FAMILIES, FamilyCard

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
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    tokenizer = emo.load_model("organism").tokenizer
    config = OlmoConfig(vocab_size=len(tokenizer), pad_token_id=None, eos_token_id=1, **sizes)
    with tempfile.TemporaryDirectory() as folder:
        OlmoForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        model = emo.load_model(folder)
    assert all(check.passed for check in model.checks) and len(model.checks) >= 6
    assert model.sites == tuple(f"blocks.{layer}.hook_resid_post" for layer in range(3))
