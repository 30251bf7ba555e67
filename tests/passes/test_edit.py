"""Edits are undone after an error, and one that never runs or changes nothing is a failure."""

import pytest
import torch
from fixtures.make_directions import push_along
from interventions.bridges import hooks_of, native_bridge
from planted.paper_model import random_batch, random_model, random_saes

from emocircuits.errors import Failure, UserError
from emocircuits.interventions import patch
from emocircuits.interventions.splice import splice
from emocircuits.interventions.steer import steer
from emocircuits.names import residual_site
from emocircuits.passes.edit import edited

SITE = residual_site(1)


@pytest.fixture(scope="module")
def bridge():
    return native_bridge()


@pytest.fixture(params=["bridge", "hooked_transformer"])
def model(request):
    return (
        request.getfixturevalue("bridge") if request.param == "bridge" else random_model(dtype=torch.float32)
    )


def test_edits_are_undone_after_an_exception(model):
    tokens = random_batch(2).clean
    before = model(tokens)
    with pytest.raises(ZeroDivisionError), splice(model, random_saes("topk", 3, 12, dtype=torch.float32)):
        model(tokens)
        raise ZeroDivisionError
    with pytest.raises(UserError, match="shape"), patch.add(model, SITE, torch.ones(1, 1, 12)):
        model(tokens)
    assert hooks_of(model) == 0
    assert torch.equal(model(tokens), before)


def test_a_hook_that_never_runs_or_does_nothing_is_a_failure(model):
    tokens = random_batch(2).clean
    with pytest.raises(Failure, match="never ran"), steer(model, push_along(SITE, torch.randn(12), 0.1, 3.0)):
        pass
    with (
        pytest.raises(UserError, match="outside the prompt"),
        steer(model, push_along(SITE, torch.randn(12), 0.1, 3.0), positions=[40]),
    ):
        model(tokens)
    with pytest.raises(Failure, match="changed nothing"), edited(model, {SITE: lambda x: x + 0}, what="test"):
        model(tokens)
    with pytest.raises(Failure, match="returned shape"), edited(model, {SITE: lambda x: x[:1]}, what="test"):
        model(tokens)
    assert hooks_of(model) == 0
