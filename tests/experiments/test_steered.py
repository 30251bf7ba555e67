"""Many steered passes against one push at a time."""

import numpy as np
import pytest
import torch
from experiments.steering_world import directions, metric, prompts
from fixtures.make_directions import push_along

from emocircuits.experiments.steered import steered_metric
from emocircuits.interventions.steer import steer
from emocircuits.models import FAMILIES, load_model
from emocircuits.models.tiny import write_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(str(write_tiny_model("llama", tmp_path_factory.mktemp("llama"))))


@pytest.mark.parametrize("family", FAMILIES.names())
def test_steered_metric_equals_the_steer_context(family, tmp_path):
    model = load_model(str(write_tiny_model(family, tmp_path)), checks=False)
    chosen, push_norm = prompts(model, 3), 1.7
    pushes = np.stack(
        [push_norm * direction.vector for direction in directions(model, 0)[:2]]
        + [np.zeros(model.d_model, np.float32)]
    )
    for site in (model.sites[0], model.sites[-1]):
        found = steered_metric(model, chosen, pushes, metric, site=site, batch_tokens=20)
        for row, direction in enumerate(directions(model, 0)[:2]):
            for column, prompt in enumerate(chosen):
                with torch.no_grad(), steer(model.bridge, push_along(site, direction.vector, 1.0, push_norm)):
                    expected = float(metric(model.bridge(torch.tensor([prompt])))[0])
                assert found[row, column] == pytest.approx(expected, abs=2e-5 * max(1, abs(expected)))
        plain = [float(metric(model.bridge(torch.tensor([prompt])))[0]) for prompt in chosen]
        np.testing.assert_allclose(found[-1], plain, atol=1e-5 * max(1, np.abs(plain).max()))
