"""The check decides: one gradient on a metric that is as good as linear, a path where it saturates."""

import numpy as np
import pytest
import torch
from planted.paper_model import difference, random_batch, random_model, random_saes
from planted.tasks import task_of

from emocircuits.attribution.attribute import attribute


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    return random_model(), random_saes("topk", 3, 12), random_batch()


def saturating(logits):
    return torch.tanh(30 * difference(logits))


@pytest.mark.parametrize("nodes", ["features", "components"])
def test_one_gradient_or_the_path_whichever_the_patches_say(world, nodes):
    model, saes, batch = world
    answers = {}
    for name, metric in (("plain", lambda logits: 1e-3 * difference(logits)), ("saturating", saturating)):
        task = task_of(model, batch, metric, saes if nodes == "features" else {})
        found = attribute(task, nodes=nodes, edges=False, method="checked")
        said = found.conventions["check"]
        method = "attribution_patching" if "one gradient is enough" in said else "integrated_gradients"
        same = attribute(task, nodes=nodes, edges=False, method=method)
        np.testing.assert_allclose(found.effects, same.effects, atol=1e-12)
        assert found.nodes == same.nodes and found.passes > same.passes
        r, slope = float(said.split("r = ")[1].split()[0]), float(said.split("slope ")[1].split()[0])
        assert (r >= 0.95 and 2 / 3 <= slope <= 3 / 2) == (method == "attribution_patching")
        answers[name] = method
    assert answers["saturating"] == "integrated_gradients"
