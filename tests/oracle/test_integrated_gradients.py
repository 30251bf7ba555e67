"""Integrated gradients: complete on a model with attention, MLPs and LayerNorm; equal to one gradient where
that is exact.
"""

import numpy as np
import pytest
import torch
from planted.paper_model import difference, random_batch, random_model, random_saes
from planted.tasks import feature_edges, task_of

from emocircuits import attribute
from emocircuits.errors import Failure, UserError


def integrated(task, steps=None):
    return attribute(task, method="integrated_gradients", steps=steps, edges=False)


def site_totals(result, saes):
    """Sum of the effects at every site, per prompt."""
    return np.stack([result.effects[:, [site in node for node in result.nodes]].sum(1) for site in saes])


@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu"])
def test_effects_of_every_site_add_up_to_the_metric_change(architecture):
    model, saes, batch = random_model(), random_saes(architecture, 3, 12), random_batch(4)
    coarse, fine = (integrated(task_of(model, batch, difference, saes), steps) for steps in (16, 256))
    change = fine.metric_clean - fine.metric_corrupt
    np.testing.assert_allclose(
        site_totals(fine, saes), np.tile(change, (len(saes), 1)), atol=2e-4 * np.abs(change).max()
    )
    assert np.abs(site_totals(coarse, saes) - change).mean() <= 0.01 * np.abs(change).mean()
    once = attribute(task_of(model, batch, difference, saes), edges=False)
    assert np.abs(site_totals(once, saes) - change).max() > np.abs(site_totals(coarse, saes) - change).max()
    assert fine.passes == 2 + 2 * 256 * len(saes)


def test_equals_the_single_gradient_on_a_linear_model():
    model, saes = random_model(linear=True), random_saes("topk", 3, 12)
    batches = [random_batch(5, 7), random_batch(3, 6, start=5)]
    single, path = (
        attribute(task_of(model, batches, difference, saes), method=method, edges=False)
        for method in ("attribution_patching", "integrated_gradients")
    )
    assert single.nodes == path.nodes
    np.testing.assert_allclose(path.effects, single.effects, atol=1e-10)


def test_last_site_edges_are_the_effects_and_linear_edges_stay():
    model, saes, batch = random_model(), random_saes("topk", 3, 12), random_batch(3)
    result = integrated(task_of(model, batch, difference, saes), 4)
    last = list(saes)[-1]
    nodes = [node for node in result.nodes if last in node]
    edges = feature_edges(task_of(model, batch, difference, saes), nodes, 4)
    effects = dict(zip(result.nodes, result.effects.T, strict=True))
    for row, node in enumerate(nodes):
        np.testing.assert_allclose(edges.effects[:, edges.indptr[row]], effects[node], atol=1e-9)
    linear = random_model(linear=True)
    plain, path = (
        feature_edges(task_of(linear, batch, difference, saes), result.nodes, steps) for steps in (0, 3)
    )
    np.testing.assert_allclose(path.effects, plain.effects, atol=1e-10)


def test_bad_input_is_refused_and_leaves_no_hook():
    model, saes, batch = random_model(), random_saes("topk", 3, 12), random_batch(2)
    with pytest.raises(UserError, match="0 steps"):
        integrated(task_of(model, batch, difference, saes), 0)
    before = model(batch.corrupt)

    def broken(logits):
        return difference(logits) * float("nan")

    with pytest.raises((Failure, UserError)):
        integrated(task_of(model, batch, broken, saes), 2)
    assert torch.equal(model(batch.corrupt), before)
