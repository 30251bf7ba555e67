"""A push is strength times mean residual norm times direction, and a length is no strength."""

import numpy as np
import pytest
import torch
from fixtures.make_directions import directions_for, push_along
from planted.paper_model import random_model

from emocircuits.errors import UserError
from emocircuits.interventions.steer import steer
from emocircuits.models import load_model
from emocircuits.models.tiny import write_tiny_model
from emocircuits.names import residual_site

SITE = residual_site(1)


@pytest.fixture(scope="module")
def model():
    return random_model(dtype=torch.float32)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return load_model(str(write_tiny_model("llama", tmp_path_factory.mktemp("llama"))), checks=False)


@pytest.mark.parametrize("strength", [5, -300, float("nan")])
def test_a_strength_that_is_a_length_is_refused_with_the_cure(model, strength):
    with pytest.raises(UserError) as caught, steer(model, push_along(SITE, torch.ones(12), strength, 60.0)):
        pass
    if strength == 5:
        assert "the strength is 0.0833" in str(caught.value) and "mean residual norm" in str(caught.value)


def test_a_push_is_strength_times_norm_times_direction(tiny):
    directions = directions_for(tiny)
    for name, unit in (
        ("calm", directions.vector("calm", tiny.sites[0])),
        ("random 3", directions.controls["random"].vectors[0, 3]),
    ):
        push = directions.push(name, -0.25, tiny.sites[0])
        assert (push.name, push.site) == (name, tiny.sites[0])
        np.testing.assert_allclose(push.vector, -0.25 * 4.0 * unit, rtol=1e-6)
    assert directions.push("calm", 0.1).site == directions.steer_site
    with pytest.raises(UserError, match="unknown emotion or control 'clam'"):
        directions.push("clam", 0.1)
    with pytest.raises(UserError, match="length in residual units"):
        directions.push("calm", 4.0)
