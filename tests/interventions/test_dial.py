"""Steering by names of emotions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.make_directions import directions_for, push_along
from planted.paper_model import random_model

import emocircuits
from emocircuits.errors import UserError
from emocircuits.interventions.dial import dial_pushes
from emocircuits.interventions.steer import steer, summed
from emocircuits.models import load_model
from emocircuits.models.tiny import write_tiny_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return load_model(str(write_tiny_model("llama", tmp_path_factory.mktemp("llama"))), checks=False)


def test_the_dial_adds_up_emotions_and_equals_steering(tiny, tmp_path):
    directions = directions_for(tiny)
    tokens, site = torch.arange(4, 10)[None], directions.steer_site
    with torch.no_grad():
        with emocircuits.steering(tiny, directions, {"calm": 0.2}):
            dialled = tiny.bridge(tokens)
        with steer(
            tiny.bridge, push_along(site, directions.vector("calm", site), 0.2, directions.scale(site))
        ):
            torch.testing.assert_close(dialled, tiny.bridge(tokens), atol=1e-5, rtol=1e-5)
        directions.save(tmp_path / "directions.h5")
        for source in (tmp_path, tmp_path / "directions.h5", str(tmp_path)):
            with emocircuits.steering(tiny.bridge, source, {"calm": 0.2}):
                assert torch.equal(dialled, tiny.bridge(tokens))
        with emocircuits.steering(tiny, directions, {"calm": 0.0}):
            assert torch.equal(tiny.bridge(tokens), tiny.bridge(tokens))
    both = summed(dial_pushes(tiny, directions, {"calm": 0.2, "desperate": -0.1}, sites=tiny.sites))
    for site in tiny.sites:
        wanted = 0.2 * directions.vector("calm", site) - 0.1 * directions.vector("desperate", site)
        np.testing.assert_allclose(both[site], directions.scale(site) * wanted.astype(np.float64), atol=1e-6)


def test_the_dial_refuses_what_does_not_fit(tiny):
    directions = directions_for(tiny)
    for changed, bias, options, text in (
        (replace(directions, model_hash="f" * 64), {"calm": 0.1}, {}, "belong to another model"),
        (directions, {"clam": 0.1}, {}, "did you mean 'calm'"),
        (directions, {"calm": 5}, {}, "length in residual units"),
        (directions, {"calm": 0.1}, {"sites": "blocks.9.hook_resid_post"}, "unknown site"),
        (
            replace(directions, sites=(*tiny.sites[:2], "blocks.0.hook_mlp_out"), read_site=tiny.sites[0]),
            {"calm": 0.1},
            {},
            "read at blocks.0.hook_mlp_out",
        ),
    ):
        with pytest.raises(UserError, match=text), emocircuits.steering(tiny, changed, bias, **options):
            tiny.bridge(torch.arange(4, 10)[None])
    with (
        pytest.raises(UserError, match="the model's 12"),
        emocircuits.steering(random_model(), directions, {"calm": 0.1}),
    ):
        pass
