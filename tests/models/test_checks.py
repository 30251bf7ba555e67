"""Checks at load: what they found, and models that fail them."""

import pytest
from transformer_lens.model_bridge import TransformerBridge

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
        "plain Hugging Face repeats itself",
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


def test_what_the_model_itself_does_not_repeat_is_not_asked_of_the_bridge(good, monkeypatch):
    """Noise of plain Hugging Face above the usual tolerance is allowed; far more is its own fault."""
    whole, noise = checks._padding, [0.0]

    def noisy(self):
        return checks.PlainLogits(self.logits, noise[0])

    def padded(model, tokens, logits, reference):
        return whole(model, tokens, logits * (1 + 1e-5), noisy(reference))

    real = checks.PlainLogits.of
    monkeypatch.setattr(checks, "_padding", padded)
    with pytest.raises(Failure, match="padding on the right.*this version of TransformerLens"):
        load_model(str(good))
    noise[0] = 5e-6
    assert load_model(str(good)).checks
    monkeypatch.setattr(
        checks.PlainLogits, "of", lambda *given: checks.PlainLogits(real(*given).logits, 1e-3)
    )
    with pytest.raises(Failure, match="plain Hugging Face repeats itself.*its own code is at fault"):
        load_model(str(good))


def test_an_edit_that_reaches_nothing_fails_the_load(good, monkeypatch):
    """One site's hook is never set: the rows of the one pass must not stand in for one another."""
    real = TransformerBridge.hooks

    def without_one(self, fwd_hooks=(), **options):
        kept = [hook for hook in fwd_hooks if len(fwd_hooks) != 3 or hook[0] != "blocks.1.hook_resid_post"]
        return real(self, fwd_hooks=kept, **options)

    monkeypatch.setattr(TransformerBridge, "hooks", without_one)
    model = load_model(str(good), checks=False)
    tokens = checks.probe_tokens(model.d_vocab)
    found = checks._hook_liveness(model, tokens, checks.PlainLogits(model.bridge(tokens), 3e-6))
    assert not found.passed and found.value < 1e-5 and "blocks.1.hook_resid_post" in found.detail
