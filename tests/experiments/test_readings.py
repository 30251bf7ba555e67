"""Readings against a hook and a loop."""

import numpy as np
import pytest
import torch
from experiments.tiny_world import tiny_directions, tiny_model

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.errors import UserError
from emocircuits.experiments.readings import long_readings, phase_trace, token_readings
from emocircuits.models import FAMILIES, load_model
from emocircuits.models.tiny import TinyShape, write_tiny_model


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    model = load_model(str(write_tiny_model("gpt2", tmp_path_factory.mktemp("gpt2"))))
    source = np.random.default_rng(0)
    vectors = source.standard_normal((3, 2, model.d_model)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    directions = EmotionDirections(
        vectors=vectors,
        norms=np.ones((3, 2), np.float32),
        mean=source.standard_normal((3, model.d_model)).astype(np.float32),
        residual_norm=np.array([2, 3, 4], np.float32),
        held_out_auroc=np.ones((3, 2), np.float32),
        sites=model.sites,
        emotions=("calm", "sad"),
        estimator="difference_of_means",
        settings={},
        controls={},
        model_hash=model.content_hash,
        read_site=model.sites[1],
        steer_site=model.sites[0],
    )
    return model, directions


def test_token_readings_equal_a_hook(read):
    model, directions = read
    texts = [
        model.encode("The tests failed and he felt calm."),
        model.encode("She ran home."),
        model.encode("She ran home!"),
    ]
    found = token_readings(model, directions, texts, ["sad", "calm"], batch_tokens=5)
    for ids, values in zip(texts, found, strict=True):
        kept = {}
        with (
            torch.no_grad(),
            model.bridge.hooks(
                fwd_hooks=[(directions.read_site, lambda value, hook: kept.update(x=value.numpy()))]
            ),
        ):
            model.bridge(torch.tensor([ids]))
        for column, emotion in enumerate(("sad", "calm")):
            expected = (
                (kept["x"][0] - directions.mean[1]) @ directions.vector(emotion, directions.read_site) / 3
            )
            np.testing.assert_allclose(values[1:, column], expected[1:], atol=1e-5)
        assert np.isnan(values[0]).all()


def test_phase_trace(read):
    model, directions = read
    phases = [
        ("failures 0", "The tests failed"),
        ("passed", "She ran home"),
        ("failures 0", "The tests failed and failed"),
    ]
    table = phase_trace(model, directions, phases, "sad")
    assert table["phase"].tolist() == ["failures 0", "passed"] and table["n"].tolist() == [2, 1]
    readings = token_readings(model, directions, [model.encode(text) for _, text in phases], ["sad"])
    assert table["reading"][0] == pytest.approx((readings[0][-1, 0] + readings[2][-1, 0]) / 2)


def test_bad_input(read):
    model, directions = read
    with pytest.raises(UserError, match="did you mean 'calm'"):
        token_readings(model, directions, [[1, 2]], ["clam"])
    with pytest.raises(UserError, match="no texts"):
        phase_trace(model, directions, [], "sad")
    other = EmotionDirections(**(vars(directions) | {"model_hash": "another"}))
    with pytest.raises(UserError, match="another model"):
        token_readings(model, other, [[1, 2]], ["sad"])
    with pytest.raises(UserError, match="unknown kind of control 'random'"):
        directions.with_controls(["sad"], kinds=("random",))


@pytest.mark.parametrize("family", FAMILIES.names())
def test_chunked_readings_are_those_of_the_whole_prompt(family, tmp_path):
    """Sliding windows of 8 tokens are crossed by chunks of 5 and 16."""
    model = tiny_model(tmp_path, family, TinyShape(n_layers=2))
    directions = tiny_directions(model)
    ids = [model.bos_id or 3, *np.random.default_rng(0).integers(3, model.d_vocab, 60).tolist()]
    whole = token_readings(model, directions, [ids], ["sad", "calm"])[0]
    for chunk in (5, 16, 100):
        found = long_readings(model, directions, ids, ["sad", "calm"], chunk=chunk)
        assert np.isnan(found[0]).all()
        np.testing.assert_allclose(found[1:], whole[1:], atol=2e-4 * np.nanmax(np.abs(whole)))
