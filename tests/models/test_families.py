"""Every registered family loads through the same code, passes its checks, and agrees with Hugging Face run
apart.
"""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from emocircuits.models import FAMILIES, load_model
from emocircuits.models.tiny import write_tiny_model
from emocircuits.passes.resume import stream_at


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


def test_logits_and_residuals_equal_hugging_face(family):
    """The oracle is a second copy of the model with plain PyTorch, no bridge."""
    _, directory, model = family
    plain = AutoModelForCausalLM.from_pretrained(directory, attn_implementation="eager").eval()
    tokens = torch.randint(3, model.d_vocab, (2, 17))
    with torch.no_grad():
        out = plain(tokens, output_hidden_states=True)
        found = model.bridge(tokens)
    assert (found - out.logits).abs().max() <= 2e-6 * max(1, out.logits.abs().max())
    # Hugging Face applies the final norm to the last hidden state
    for layer, site in enumerate(model.sites[:-1]):
        expected = out.hidden_states[layer + 1]
        assert torch.allclose(
            stream_at(model.bridge, tokens, site), expected, atol=1e-5 * float(expected.abs().max())
        )


def test_encoding(family):
    _, _, model = family
    ids = model.encode("The tests failed and he decided to")
    bos = model.tokenizer.bos_token_id
    assert ids.count(bos) == (1 if model.card.bos == "prepend" else 0)
    assert "".join(model.token_texts(ids)).removeprefix("<bos>") == "The tests failed and he decided to"
    assert model.token_texts([model.single_token("cheat")]) == [" cheat"]
    assert model.encode("The tests failed and he decided to cheat") == [*ids, model.single_token("cheat")]


def test_parameters_are_frozen_and_counted_once(family):
    _, directory, model = family
    plain = AutoModelForCausalLM.from_pretrained(directory)
    assert model.n_params == sum(parameter.numel() for parameter in plain.parameters())
    assert not any(parameter.requires_grad for parameter in model.bridge.original_model.parameters())
    assert (model.n_layers, model.d_model, len(model.sites)) == (3, 32, 3)


def test_same_files_same_hash(family, tmp_path):
    name, directory, model = family
    assert load_model(str(directory), checks=False).content_hash == model.content_hash
    other = write_tiny_model(name, tmp_path / "other", words=("cheat",), seed=1)
    assert load_model(str(other), checks=False).content_hash != model.content_hash


def test_float64_is_float64(family):
    _, directory, _ = family
    model = load_model(str(directory), dtype="float64")
    assert model.bridge(torch.tensor([[3, 4, 5]])).dtype == torch.float64
    values = [check.value for check in model.checks if check.name == "residual identity"]
    assert np.max(values) < 1e-12
