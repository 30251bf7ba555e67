"""Prompts that are too short to be read, or longer than the context, are one line."""

import numpy as np
import pytest
import torch
from fixtures.make_directions import directions_for

import emocircuits
from emocircuits.errors import UserError
from emocircuits.experiments.calibration import Calibration, calibrate
from emocircuits.experiments.monitor import Monitor
from emocircuits.experiments.readings import long_readings, phase_trace, token_readings
from emocircuits.interventions.generate import sample
from emocircuits.models import load_model
from emocircuits.models.tiny import write_tiny_model

READ = {
    "token_readings": lambda model, directions, ids: token_readings(model, directions, [ids], ["desperate"]),
    "long_readings": lambda model, directions, ids: long_readings(model, directions, ids, ["desperate"]),
}


@pytest.fixture(scope="module", params=["gpt2", "llama", "qwen2"])
def world(request, tmp_path_factory):
    model = load_model(str(write_tiny_model(request.param, tmp_path_factory.mktemp("model"))))
    return model, directions_for(model)


@pytest.mark.parametrize("read", READ)
def test_longer_than_the_context(world, read):
    model, directions = world
    ids = torch.randint(3, model.d_vocab, (model.n_ctx + 40,)).tolist()
    with pytest.raises(
        UserError, match="a prompt of 168 tokens; expected at most the context of 128; shorten"
    ):
        READ[read](model, directions, ids)
    fits = READ[read](model, directions, ids[: model.n_ctx])
    assert np.isfinite(np.asarray(fits).reshape(model.n_ctx, 1)[1:]).all()


def test_attribution_and_writing_know_the_context_too(world):
    model, _ = world
    tokens = torch.randint(3, model.d_vocab, (1, model.n_ctx + 1))
    with pytest.raises(UserError, match="a prompt of 129 tokens; expected at most the context of 128"):
        emocircuits.attribute(model, tokens, tokens.flip(1), lambda logits: logits[:, -1, 5])
    with pytest.raises(
        UserError, match="a prompt of 120 tokens and 9 to write; expected at most the context"
    ):
        sample(model.bridge, tokens[:, :120], 9)
    assert sample(model.bridge, tokens[:, :120], 8).shape == (1, 8)


@pytest.mark.parametrize("read", READ)
def test_a_prompt_without_tokens(world, read):
    with pytest.raises(UserError, match="a prompt without tokens"):
        READ[read](*world, [])


def test_the_first_token_has_no_reading_and_whoever_asks_for_it_is_told(world):
    model, directions = world
    if model.bos_id is not None:
        pytest.skip("a prompt of one token needs a tokenizer that puts no BOS")
    assert len(model.encode("T")) == 1
    (reading,) = token_readings(model, directions, [model.encode("T")], ["desperate"])
    assert np.isnan(reading).all()
    with pytest.raises(
        UserError, match="the text 'T' is one token, and the first token of a text has no reading"
    ):
        phase_trace(model, directions, [("a", "Then he ran"), ("a", "T")], "desperate")
    with pytest.raises(UserError, match="2 neutral texts of one token each"):
        calibrate(model, directions, ["T", "h"], ["desperate"])
    watch = Monitor(model, directions, Calibration({"desperate": 1e9}, 0.01, 100))
    with pytest.raises(UserError, match="the prompt 'T' is one token, the first, which has no reading"):
        list(watch.write("T", 3))
