"""Only the logits that a metric reads are computed, and nothing comes out differently."""

import numpy as np
import pytest
import torch
from families.family_world import write_family
from planted.paper_model import difference, random_batch, random_model, random_saes
from transformer_lens.hook_points import HookPoint

from emocircuits import attribute
from emocircuits.errors import UserError
from emocircuits.models import FAMILIES, load_model
from emocircuits.passes.metric import last_logits, reads_last_position, run_metric

INDEX = torch.arange(6)


def needs_all(logits):
    """The same metric, for which the last position is not enough."""
    if logits.shape[1] == 1:
        raise IndexError
    return difference(logits)


@pytest.mark.parametrize("family", [*FAMILIES.names(), "hooked transformer"])
def test_effects_are_those_of_all_logits(family, tmp_path):
    model = (
        random_model()
        if family == "hooked transformer"
        else load_model(str(write_family(family, tmp_path)), dtype="float64", checks=False).bridge
    )
    batch = random_batch()
    whole = model(batch.clean)
    torch.testing.assert_close(last_logits(model, batch.clean), whole[:, -1:], atol=1e-12, rtol=1e-12)
    saes = random_saes("topk", model.cfg.n_layers, model.cfg.d_model)
    for settings in (
        {"nodes": "components"},
        {"nodes": "components", "method": "integrated_gradients", "steps": 2},
        {"saes": saes},
    ):
        short, full = (
            attribute(model, batch.clean, batch.corrupt, metric, **settings)
            for metric in (difference, needs_all)
        )
        assert short.nodes == full.nodes and np.abs(full.effects).max() > 1e-6
        for a, b in (
            (short.effects, full.effects),
            (short.edges.effects, full.edges.effects),
            (short.metric_clean, full.metric_clean),
        ):
            np.testing.assert_allclose(a, b, atol=1e-9 * max(1.0, np.abs(b).max()))


@pytest.mark.parametrize("family", ["gpt2", "hooked transformer"])
def test_no_other_logits_are_made(family, tmp_path):
    model = (
        random_model()
        if family == "hooked transformer"
        else load_model(str(write_family(family, tmp_path)), checks=False).bridge
    )
    batch, made = random_batch(), []
    with model.hooks(
        fwd_hooks=[
            (
                "ln_final.hook_normalized" if family == "hooked transformer" else "unembed.hook_in",
                lambda value, hook: made.append(value.shape[1]),
            )
        ]
    ):
        short = run_metric(model, batch.clean, difference, batch.index)
        full = run_metric(model, batch.clean, needs_all, batch.index)
    assert made == [1, batch.clean.shape[1]]
    torch.testing.assert_close(short, full, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "olmo2", "hooked transformer"])
def test_the_last_block_is_run_at_the_last_position_unless_someone_looks(family, tmp_path):
    model = (
        random_model()
        if family == "hooked transformer"
        else load_model(str(write_family(family, tmp_path)), dtype="float64", checks=False).bridge
    )
    batch, made, seen = random_batch(), [], []
    length, block = batch.clean.shape[1], model.blocks[model.cfg.n_layers - 1]
    inside = [module for module in block.mlp.modules() if not isinstance(module, HookPoint)]
    handles = [
        module.register_forward_hook(lambda module, given, out: made.append(out.shape[1]))
        for module in inside
    ]

    def run(metric):
        made.clear()
        return attribute(model, batch.clean, batch.corrupt, metric, nodes="components").effects, min(made)

    try:
        run(difference)  # the first call also looks at how the model is built
        (short, alone), (full, whole) = run(difference), run(needs_all)
        with model.hooks(
            fwd_hooks=[
                (
                    f"blocks.{model.cfg.n_layers - 1}.hook_mlp_out",
                    lambda value, hook: seen.append(value.detach()),
                )
            ]
        ):
            watched, looked = run(difference)
    finally:
        for handle in handles:
            handle.remove()
    assert (alone, whole, looked) == (1, length, length)
    assert {value.shape[1] for value in seen} == {length} and all(bool(value[:, 0].any()) for value in seen)
    for other in (full, watched):
        np.testing.assert_allclose(short, other, atol=1e-9 * np.abs(other).max())


def test_no_hook_is_left_after_a_metric_that_fails():
    model, batch = random_model(), random_batch()

    def fails(logits):
        if logits.requires_grad:
            raise RuntimeError("no")
        return difference(logits)

    with pytest.raises(
        UserError, match="raised RuntimeError on a batch of 5 prompts.*: no;.*second argument"
    ):
        attribute(model, batch.clean, batch.corrupt, fails, nodes="components")
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_metric_is_asked_about_every_prompt_and_length():
    model = random_model()
    place = torch.tensor([6, 6, 6, 6, 2, 6])

    def per_prompt(logits, index):
        return logits[torch.arange(len(index)), place[index], 3]

    def own_token(logits, index):
        return logits[:, -1, :8][torch.arange(len(index)), index]

    assert reads_last_position(model, own_token, 7, INDEX) and not reads_last_position(
        model, per_prompt, 7, INDEX
    )
    for metric in (
        lambda logits: logits[:, 0, 1],
        lambda logits: logits.mean((1, 2)),
        lambda logits: logits[:, -2, 3] - logits[:, -1, 4],
        lambda logits: logits.log_softmax(-1)[..., 2].sum(1),
        lambda logits: logits[:, 6, 3],
    ):
        assert not reads_last_position(model, metric, 7, INDEX)
    for metric in (
        lambda logits: logits[:, -1].log_softmax(-1)[:, 2],
        lambda logits: logits[:, logits.shape[1] - 1, 3],
    ):
        assert reads_last_position(model, metric, 7, INDEX)


def test_asking_takes_no_memory_of_all_logits():
    """Long prompts and a large vocabulary: the logits asked about would be 120 GB."""

    class Wide(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.cfg = type("cfg", (), {"d_vocab": 256_000})

    assert reads_last_position(Wide(), lambda logits: logits[:, -1, 3] - logits[:, -1, 5], 20_000, INDEX)
