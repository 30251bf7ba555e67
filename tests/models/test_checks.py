"""Checks at load: what they found, and models that fail them."""

import pytest

from emocircuits.errors import Failure
from emocircuits.models import FAMILIES, checks, load_model
from emocircuits.models.tiny import write_tiny_model


@pytest.fixture(scope="module", params=FAMILIES.names())
def family(request, tmp_path_factory):
    directory = write_tiny_model(request.param, tmp_path_factory.mktemp(request.param), words=("cheat",))
    return request.param, directory, load_model(str(directory))


def test_checks_ran_and_passed(family):
    _, _, model = family
    assert {check.name for check in model.checks} == {
        "hooks exist",
        "residual identity",
        "logits equal Hugging Face's",
        "gradients present",
        "hook liveness",
        "hooks gone afterwards",
        "padding on the right changes nothing",
        "single BOS",
        "parameters frozen",
    }
    assert all(check.passed for check in model.checks)
    assert model.card.name == family[0]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_tiny_model("llama", tmp_path_factory.mktemp("good"))


def test_a_failing_check_names_itself(good, monkeypatch):
    monkeypatch.setattr(
        checks, "_single_bos", lambda model: checks.Check("single BOS", False, 2.0, "two of them")
    )
    with pytest.raises(Failure, match="single BOS"):
        load_model(str(good))


def test_a_hook_that_holds_the_wrong_tensor_fails_the_load(good, monkeypatch):
    """If `hook_attn_out` held something else, the residual identity would break."""
    caught = checks._residual_identity

    def swapped(model, seen):
        return caught(model, seen | {"blocks.1.hook_attn_out": seen["blocks.1.hook_mlp_out"]})

    monkeypatch.setattr(checks, "_residual_identity", swapped)
    with pytest.raises(Failure, match="residual identity"):
        load_model(str(good))
