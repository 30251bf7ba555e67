"""Only the logits that a metric reads are computed, and nothing comes out differently."""

import numpy as np
import pytest
import torch
from families.family_world import write_family
from planted.paper_model import difference, random_batch, random_model, random_saes

from emocircuits import attribute
from emocircuits.attribution.last_position import reads_last_position, run_metric
from emocircuits.models import FAMILIES, load_model
from emocircuits.models.last_logits import last_logits

INDEX = torch.arange(6)


def needs_all(logits):
    """The same metric, for which the last position is not enough."""
    if logits.shape[1] == 1:
        raise IndexError
    return difference(logits)


@pytest.mark.parametrize("family", [*FAMILIES.names(), "hooked transformer"])
def test_effects_are_those_of_all_logits(family, tmp_path):
    model = random_model() if family == "hooked transformer" else load_model(str(write_family(family, tmp_path)), dtype="float64", checks=False).bridge
    batch = random_batch()
    whole = model(batch.clean)
    torch.testing.assert_close(last_logits(model, batch.clean), whole[:, -1:], atol=1e-12, rtol=1e-12)
    saes = random_saes("topk", model.cfg.n_layers, model.cfg.d_model)
    for settings in ({"nodes": "components"}, {"nodes": "components", "method": "integrated_gradients", "steps": 2}, {"saes": saes}):
        short, full = (attribute(model, batch.clean, batch.corrupt, metric, **settings) for metric in (difference, needs_all))
        assert short.nodes == full.nodes and np.abs(full.effects).max() > 1e-6
        for a, b in ((short.effects, full.effects), (short.edges.effects, full.edges.effects), (short.metric_clean, full.metric_clean)):
            np.testing.assert_allclose(a, b, atol=1e-9 * max(1.0, np.abs(b).max()))


@pytest.mark.parametrize("family", ["gpt2", "hooked transformer"])
def test_no_other_logits_are_made(family, tmp_path):
    model = random_model() if family == "hooked transformer" else load_model(str(write_family(family, tmp_path)), checks=False).bridge
    batch, made = random_batch(), []
    with model.hooks(fwd_hooks=[("ln_final.hook_normalized" if family == "hooked transformer" else "unembed.hook_in",
                                 lambda value, hook: made.append(value.shape[1]))]):
        short = run_metric(model, batch.clean, difference, batch.index)
        full = run_metric(model, batch.clean, needs_all, batch.index)
    assert made == [1, batch.clean.shape[1]]
    torch.testing.assert_close(short, full, atol=1e-5, rtol=1e-5)


def test_a_metric_is_asked_about_every_prompt_and_length():
    model = random_model()
    place = torch.tensor([6, 6, 6, 6, 2, 6])

    def per_prompt(logits, index):
        return logits[torch.arange(len(index)), place[index], 3]

    def own_token(logits, index):
        return logits[:, -1, :8][torch.arange(len(index)), index]

    assert reads_last_position(model, own_token, 7, INDEX) and not reads_last_position(model, per_prompt, 7, INDEX)
    for metric in (lambda logits: logits[:, 0, 1], lambda logits: logits.mean((1, 2)), lambda logits: logits[:, -2, 3] - logits[:, -1, 4],
                   lambda logits: logits.log_softmax(-1)[..., 2].sum(1), lambda logits: logits[:, 6, 3]):
        assert not reads_last_position(model, metric, 7, INDEX)
    for metric in (lambda logits: logits[:, -1].log_softmax(-1)[:, 2], lambda logits: logits[:, logits.shape[1] - 1, 3]):
        assert reads_last_position(model, metric, 7, INDEX)


def test_asking_takes_no_memory_of_all_logits():
    """Long prompts and a large vocabulary: the logits asked about would be 120 GB."""
    class Wide(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.cfg = type("cfg", (), {"d_vocab": 256_000})

    assert reads_last_position(Wide(), lambda logits: logits[:, -1, 3] - logits[:, -1, 5], 20_000, INDEX)
