"""Sampling with and without a cache."""

import pytest
import torch
from fixtures.make_directions import push_along
from interventions.bridges import native_bridge
from planted.paper_model import random_batch

from emocircuits.interventions.generate import sample
from emocircuits.interventions.steer import steer
from emocircuits.names import residual_site

SITE = residual_site(1)


@pytest.fixture(scope="module")
def bridge():
    return native_bridge()


@pytest.mark.parametrize("positions", ["all", slice(5, None), [6, 8, 9]])
def test_steered_sampling_is_the_same_with_and_without_a_cache(bridge, positions):
    tokens = random_batch(3).clean
    runs = []
    for cache in (True, False):
        with steer(bridge, push_along(SITE, torch.linspace(-1, 1, 12), 1.0, 6.0), positions):
            runs.append(sample(bridge, tokens, 5, seed=3, cache=cache))
    assert runs[0].shape == (3, 5)
    assert torch.equal(*runs)
    assert torch.equal(sample(bridge, tokens, 5, seed=3), sample(bridge, tokens, 5, seed=3))
