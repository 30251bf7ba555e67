"""What the page of families says is not opened, is not, and for the reason that stands there."""

import pytest
import torch
from benchmarks.families import NOT_OPENED
from conftest import ROOT
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

import emocircuits
from emocircuits.errors import EmocircuitsError
from emocircuits.models import FAMILIES, FamilyCard, load_model
from emocircuits.models.family import family_of_name
from emocircuits.models.tiny import write_tiny_model

SMALL = {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8}
LINEAR = {
    "num_key_value_heads": 2,
    "head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


def tiny(name, architecture, model_type, **settings):
    """A card of a family that is none of ours, with every setting that its configuration knows."""
    every = tuple(AutoConfig.for_model(model_type).to_dict())
    return FamilyCard(name, "a trial", architecture, model_type, "never", settings, (*every, *settings))


def written(card, folder):
    """A random model of the family."""
    return str(write_tiny_model(card.name, folder))


@pytest.mark.parametrize(
    ("card", "why"),
    [
        (
            tiny("qwen3_5", "Qwen3_5ForCausalLM", "qwen3_5_text", **LINEAR),
            "check 'hooks exist': blocks.0.hook_attn_out never fired",
        ),
        (
            tiny(
                "qwen3_next",
                "Qwen3NextForCausalLM",
                "qwen3_next",
                **LINEAR,
                **EXPERTS,
                shared_expert_intermediate_size=16,
            ),
            "check 'hooks exist': blocks.0.hook_attn_out never fired",
        ),
        (
            tiny("gemma4", "Gemma4ForCausalLM", "gemma4_text", **SMALL, global_head_dim=8),
            "check 'residual identity'",
        ),
        (
            tiny(
                "gemma3n",
                "Gemma3nForCausalLM",
                "gemma3n_text",
                **SMALL,
                num_kv_shared_layers=0,
                hidden_size_per_layer_input=8,
                vocab_size_per_layer_input=400,
            ),
            "Could not determine supported architecture",
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
@pytest.mark.filterwarnings("ignore")
def test_a_family_that_is_not_opened(card, why, tmp_path):
    with FAMILIES.temporarily(card):
        path = written(card, tmp_path)
        with pytest.raises((EmocircuitsError, ValueError), match=why):
            load_model(path)


@pytest.mark.filterwarnings("ignore")
def test_gemma_4_scales_the_stream_after_each_block(tmp_path):
    """Without inputs per layer and with scales of one it would load; published models have other scales."""
    settings = {**SMALL, "global_head_dim": 8, "hidden_size_per_layer_input": 0}
    card = tiny("gemma4", "Gemma4ForCausalLM", "gemma4_text", **settings)
    with FAMILIES.temporarily(card):
        path = written(card, tmp_path)
        load_model(path)
        tensors = load_file(tmp_path / "model.safetensors")
        name = next(name for name in tensors if name.endswith("layers.1.layer_scalar"))
        tensors[name] = torch.tensor([0.7])
        save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(EmocircuitsError, match="check 'residual identity'"):
            load_model(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "card",
    [
        tiny("gpt_oss", "GptOssForCausalLM", "gpt_oss", **SMALL, num_local_experts=4, num_experts_per_tok=2),
        tiny("qwen3_moe", "Qwen3MoeForCausalLM", "qwen3_moe", num_key_value_heads=2, head_dim=8, **EXPERTS),
    ],
    ids=lambda card: card.name,
)
def test_models_with_experts_are_not_whole(card, tmp_path):
    """Their streams pass the checks; float64, and for gpt-oss the components, do not work."""
    with FAMILIES.temporarily(card):
        path = written(card, tmp_path)
        model = load_model(path)
        with pytest.raises(RuntimeError, match="got Double"):
            load_model(path, dtype="float64")
        if card.name == "gpt_oss":
            clean, corrupt = torch.randint(3, 200, (2, 1, 9))
            corrupt[:, 0] = clean[:, 0]
            with pytest.raises(Exception, match=r"tuple|torch\.Tensor"):  # the shape checks have their own
                emocircuits.attribute(
                    model.bridge,
                    clean,
                    corrupt,
                    lambda logits: logits[:, -1, 3] - logits[:, -1, 5],
                    nodes="components",
                )


def test_the_page_names_them():
    page = (ROOT / "docs/families.md").read_text(encoding="utf-8").partition("## Not opened")[2]
    rows = dict(line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| "))
    assert list(rows.items())[2:] == list(NOT_OPENED.items())


def test_names_of_published_saes_are_names_of_families():
    for model, family in (
        ("gpt2-small", "gpt2"),
        ("pythia-70m-deduped", "gpt_neox"),
        ("gemma-2b-it", "gemma"),
        ("gemma-2-9b-it", "gemma2"),
        ("google/gemma-3-270m", "gemma3"),
        ("google/gemma-3-1b-it", "gemma3"),
        ("google/gemma-3-4b-it", "gemma3"),
        ("google/gemma-3-27b-pt", "gemma3"),
        ("google/gemma-3n-E4B-it", None),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama"),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "llama"),
        ("mistral-7b", "mistral"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2"),
        ("Qwen/Qwen3-8B-Base", "qwen3"),
        ("Qwen/Qwen3.5-2B-Base", None),
        ("Qwen/Qwen3-30B-A3B-Base", None),
        ("openai/gpt-oss-20b", None),
    ):
        card = family_of_name(model)
        assert (card and card.name) == family, model
