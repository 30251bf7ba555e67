"""Hooks are gone after their context whatever happens, and what is recorded is what the model held."""

import pytest
import torch
from planted.paper_model import random_batch, random_model

from emocircuits.errors import Failure, UserError
from emocircuits.models import load_model
from emocircuits.models.tiny import write_tiny_model
from emocircuits.names import residual_site
from emocircuits.passes.hooks import hook_points, hooked, output_of, recorded

SITE = residual_site(1)


@pytest.fixture(scope="module", params=["hooked", "bridge"])
def model(request, tmp_path_factory):
    if request.param == "hooked":
        return random_model(dtype=torch.float32)
    return load_model(str(write_tiny_model("llama", tmp_path_factory.mktemp("llama"))), checks=False).bridge


@pytest.fixture
def tokens():
    return random_batch(2).clean


def hooks_left(model):
    return sum(len(point.fwd_hooks) for point in hook_points(model).values())


def test_hooks_act_inside_and_are_gone_after_an_error(model, tokens):
    before = model(tokens)
    hooks = [(SITE, lambda value, hook: value + 1)]
    with pytest.raises(ZeroDivisionError), hooked(model, hook_points(model), hooks):
        assert not torch.equal(model(tokens), before)
        raise ZeroDivisionError
    assert torch.equal(model(tokens), before) and hooks_left(model) == 0


def test_a_hook_that_the_model_lacks_is_refused(model, tokens):
    with pytest.raises(UserError, match="no hook blocks.9"), recorded(model, ["blocks.9.hook_resid_post"]):
        model(tokens)
    assert hooks_left(model) == 0


def test_recorded_is_what_a_plain_hook_sees(model, tokens):
    seen = []
    with torch.no_grad(), model.hooks(fwd_hooks=[(SITE, lambda value, hook: seen.append(value.clone()))]):
        model(tokens)
    with torch.no_grad(), recorded(model, [SITE], keep=lambda value: value[:, -1]) as last:
        model(tokens)
    with recorded(model, [SITE], optional=["blocks.9.hook_resid_post"]) as held:
        model(tokens[:1])
        assert len(held[SITE]) == 1
        model(tokens)
    assert list(held) == [SITE] and torch.equal(held[SITE], seen[0]) and not held[SITE].requires_grad
    assert torch.equal(last[SITE], seen[0][:, -1])
    assert hooks_left(model) == 0


def test_a_recorded_hook_that_never_runs_is_a_failure(model):
    with pytest.raises(Failure, match="never ran"), recorded(model, [SITE]):
        pass


def test_the_output_of_a_block_is_its_stream(model, tokens):
    with torch.no_grad(), recorded(model, [SITE]) as held, output_of(model.blocks[1]) as outputs:
        model(tokens)
        model(tokens)
    assert len(outputs) == 2 and torch.equal(outputs[1], held[SITE])
    assert not model.blocks[1]._forward_hooks
