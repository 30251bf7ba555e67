"""Prompts that show an emotion: each is ranked by its reading at the last token, over prompts."""

import numpy as np
import pytest
from experiments.tiny_world import tiny_directions, tiny_model

from emocircuits.errors import UserError
from emocircuits.experiments.implicit import implicit_readings
from emocircuits.experiments.readings import token_readings

PROMPTS = [("sad", "She packed the boxes."), ("calm", "The lake was still."), ("glad", "They come home.")]


def test_ranks_are_those_of_the_readings_at_the_last_token(tmp_path):
    model = tiny_model(tmp_path)
    directions = tiny_directions(model)
    table = implicit_readings(model, directions, PROMPTS)
    assert list(table.emotion) == ["sad", "calm"] and set(table.n) == {3}  # no direction of "glad"
    ids = [model.encode(text) for _, text in PROMPTS[:2]]
    last = np.array([values[-1] for values in token_readings(model, directions, ids, directions.emotions)])
    last -= last.mean(axis=0)
    for row, line in enumerate(table.itertuples()):
        own = last[row, directions.emotions.index(line.emotion)]
        assert line.reading == pytest.approx(own)
        assert line.rank == 1 + sum(last[row] > own)
        assert line.mean_other == pytest.approx((last[row].sum() - own) / 2)


def test_prompts_of_other_emotions_are_refused(tmp_path):
    model = tiny_model(tmp_path)
    with pytest.raises(UserError, match="no prompt's emotion has a direction"):
        implicit_readings(model, tiny_directions(model), PROMPTS[2:])
