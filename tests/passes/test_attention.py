"""Attention without patterns: the same effects, memory in line with the positions, and nothing left
behind.
"""

import numpy as np
import pytest
import torch
from families.family_world import write_family
from planted.paper_model import difference, random_batch, random_model, random_saes
from planted.tasks import task_of
from transformer_lens.hook_points import HookPoint
from transformers import AttentionInterface

from emocircuits import attribute
from emocircuits.errors import UserError
from emocircuits.models import load_model
from emocircuits.models.tiny import TinyShape, write_tiny_model
from emocircuits.passes import attention as fused_module
from emocircuits.passes import recompute
from emocircuits.passes.attention import NAME, fused_attention
from emocircuits.passes.prompt_pairs import PairBatch

FAMILIES = ("gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma3", "olmo2", "phi3")
LENGTH = 60


@pytest.fixture
def always(monkeypatch):
    """Prompts of any length count as long, and windows (8 tokens in tiny models) take several chunks."""
    monkeypatch.setattr(fused_module, "SMALL_BYTES", 0)
    monkeypatch.setattr(fused_module, "CHUNK", 16)


def tiny(folder, family: str = "llama", **sizes):
    """A small bridge in float64, so that both ways take the same features."""
    return load_model(
        str(write_tiny_model(family, folder, TinyShape(**sizes))), dtype="float64", checks=False
    ).bridge


def pairs(model, length: int = LENGTH, n: int = 2) -> PairBatch:
    """Random pairs that share their last token."""
    clean, corrupt = torch.randint(3, model.cfg.d_vocab, (2, n, length))
    corrupt[:, -1] = clean[:, -1]
    return PairBatch(clean, corrupt, torch.arange(n))


def untouched(model) -> bool:
    """Whether attention is the bridge's own, and no hook is left."""
    attentions = [block.attn for block in model.blocks]
    configs = [
        model.original_model.config,
        *(attention.original_component.config for attention in attentions),
    ]
    return (
        all("forward" not in vars(attention) for attention in attentions)
        and all(config._attn_implementation == "eager" for config in configs)
        and not any(part._forward_hooks for part in model.modules() if isinstance(part, HookPoint))
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["attribution_patching", "integrated_gradients"])
def test_effects_and_edges_are_those_of_eager_attention(family, method, tmp_path, monkeypatch, always):
    model = load_model(str(write_family(family, tmp_path)), dtype="float64", checks=False).bridge
    batch, saes = pairs(model), random_saes("topk", 3, model.cfg.d_model)
    options = {"method": method, "steps": 2, "saes": saes, "max_features": 12}
    found = attribute(model, batch.clean, batch.corrupt, difference, **options)
    calls = []
    monkeypatch.setattr(fused_module, "SMALL_BYTES", 1 << 40)
    monkeypatch.setattr(fused_module, "_can_be", lambda model: calls.append(1))
    plain = attribute(model, batch.clean, batch.corrupt, difference, **options)
    assert not calls  # small prompts are not looked at
    assert found.nodes == plain.nodes and found.passes == plain.passes
    np.testing.assert_allclose(found.effects, plain.effects, rtol=0, atol=1e-5 * np.abs(plain.effects).max())
    np.testing.assert_array_equal(found.edges.targets, plain.edges.targets)
    np.testing.assert_allclose(
        found.edges.effects, plain.edges.effects, rtol=0, atol=1e-5 * np.abs(plain.edges.effects).max()
    )
    assert untouched(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_but_the_soft_capped_one_takes_it(family, tmp_path, always):
    model = tiny(tmp_path, family)
    with fused_attention(model, pairs(model).clean) as fused:
        assert fused and model.original_model.config._attn_implementation == NAME
        with fused_attention(model, pairs(model).clean) as inner:
            assert inner
        assert model.original_model.config._attn_implementation == NAME
    assert untouched(model)


def test_what_it_cannot_do_is_recomputed_instead(tmp_path, monkeypatch, always):
    monkeypatch.setattr(recompute, "KEPT_BYTES", 0)
    for model in (tiny(tmp_path, "gemma2"), random_model()):
        batch = pairs(model, 9) if hasattr(model, "original_model") else random_batch(2)
        with fused_attention(model, batch.clean) as fused:
            assert not fused
        assert (
            attribute(
                task_of(model, batch, difference, random_saes("topk", 2, model.cfg.d_model)), edges=False
            ).passes
            == 4
        )


def test_blocks_are_recomputed_too_where_streams_alone_are_too_large(tmp_path, monkeypatch, always):
    model, passes = tiny(tmp_path), []
    batch, saes = pairs(model), random_saes("topk", 2, model.cfg.d_model)
    monkeypatch.setattr(recompute, "KEPT_BYTES", recompute.pattern_bytes(model, batch.clean) - 1)
    results = []
    for factor in (1, 1000):
        monkeypatch.setattr(recompute, "STREAMS", 12 * factor)
        results.append(attribute(task_of(model, batch, difference, saes), edges=False))
        passes.append(results[-1].passes)
    assert passes == [3, 4]
    np.testing.assert_allclose(results[1].effects, results[0].effects, atol=1e-10)


@pytest.mark.parametrize("name", ["hook_pattern", "hook_z", "hook_q", "hook_rot_k"])
def test_a_hook_inside_attention_keeps_it_as_it_is(name, tmp_path, always):
    model, ran = tiny(tmp_path), []
    batch = pairs(model)
    with model.hooks(fwd_hooks=[(f"blocks.1.attn.{name}", lambda value, hook: ran.append(1))]):
        with fused_attention(model, batch.clean) as fused:
            assert not fused
        assert not ran
        attribute(task_of(model, batch, difference, random_saes("topk", 2, model.cfg.d_model)), edges=False)
    assert ran and untouched(model)


def test_hooks_on_the_streams_are_not_called_by_the_probe(tmp_path, always):
    model, seen = tiny(tmp_path), []
    batch = pairs(model)
    with model.hooks(
        fwd_hooks=[("blocks.1.hook_resid_post", lambda value, hook: seen.append(value.shape[1]))]
    ):
        attribute(task_of(model, batch, difference, random_saes("topk", 2, model.cfg.d_model)), edges=False)
    assert seen == [LENGTH, LENGTH]


def test_another_answer_of_the_probe_is_heeded(tmp_path, monkeypatch, always):
    model = tiny(tmp_path)

    def other(module, query, key, value, attention_mask, **more):
        return fused_module._attend(module, 1.001 * query, key, value, attention_mask, **more)

    AttentionInterface.register(NAME, other)
    try:
        with fused_attention(model, pairs(model).clean) as fused:
            assert not fused
    finally:
        AttentionInterface.register(NAME, fused_module._attend)
    assert untouched(model)


def test_an_error_inside_leaves_nothing_behind(tmp_path, always):
    model = tiny(tmp_path)
    batch, saes = pairs(model), random_saes("topk", 2, model.cfg.d_model)

    def broken(logits):
        if logits.requires_grad:
            assert model.original_model.config._attn_implementation == NAME
            raise RuntimeError("broken metric")
        return difference(logits)

    for metric, text in ((broken, "broken metric"), (lambda logits: logits, "one value per prompt")):
        for method in ("attribution_patching", "integrated_gradients"):
            with pytest.raises(UserError, match=text):
                attribute(model, batch.clean, batch.corrupt, metric, method=method, saes=saes)
            assert untouched(model)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3"])
def test_what_a_backward_pass_keeps_grows_in_line_with_the_positions(family, tmp_path, always):
    model = load_model(str(write_tiny_model(family, tmp_path, TinyShape(n_ctx=1024))), checks=False).bridge
    kept = {}
    for length in (256, 1024):
        storages = {}

        def note(value, storages=storages):
            storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            return value

        with (
            fused_attention(model, pairs(model, length).clean) as fused,
            torch.autograd.graph.saved_tensors_hooks(note, lambda value: value),
            model.hooks(
                fwd_hooks=[("blocks.0.hook_resid_pre", lambda value, hook: value.detach().requires_grad_())]
            ),
        ):
            assert fused and model(pairs(model, length).clean).requires_grad
        kept[length] = sum(storages.values())
    assert kept[1024] <= 4.2 * kept[256]
