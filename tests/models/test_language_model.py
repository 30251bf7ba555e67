"""Encoding, frozen parameters, hash and precision, in every family."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from emocircuits.errors import UserError
from emocircuits.models import FAMILIES, load_model
from emocircuits.models.tiny import write_tiny_model


@pytest.fixture(scope="module", params=FAMILIES.names())
def family(request, tmp_path_factory):
    directory = write_tiny_model(request.param, tmp_path_factory.mktemp(request.param), words=("cheat",))
    return request.param, directory, load_model(str(directory))


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


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_tiny_model("llama", tmp_path_factory.mktemp("good"))


def test_several_tokens_show_the_pieces(good):
    with pytest.raises(UserError, match="not one token") as caught:
        load_model(str(good), checks=False).single_token("blackmail")
    assert " | " in str(caught.value)


@pytest.mark.parametrize("text", ["naïve 好 😀", "She felt 😀😀!", "e\u0301 好好", "plain"])
def test_texts_of_tokens_joined_are_the_text(good, text):
    """The tokenizer has bytes alone: a character may be several tokens."""
    model = load_model(str(good))
    ids = model.tokenize(text)["input_ids"]
    assert "".join(model.token_texts(ids)) == model.tokenizer.decode(ids) == text
    assert len(model.token_texts(ids)) == len(ids)


def test_bytes_that_are_no_character_stay_visible(good):
    model = load_model(str(good))
    ids = model.tokenize("好 a")["input_ids"]
    cut = ids[1:]  # the character without its first byte
    assert "\ufffd" in "".join(model.token_texts(cut)) and "".join(model.token_texts(cut)).endswith(" a")
    assert "".join(model.token_texts([*cut, *ids])).endswith("好 a")
