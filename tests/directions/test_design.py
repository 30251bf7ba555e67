"""Emotions that a store does not have are refused."""

import pytest
from directions.story_store import START, make_store

from emocircuits.directions import DirectionSettings, learn_directions
from emocircuits.errors import UserError


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "a.h5")


@pytest.mark.parametrize(
    "asked, word",
    [
        ({"emotions": ("calm", "hapy")}, "did you mean 'happy'"),
        ({"emotions": ("calm",)}, "at least two"),
        ({"control_emotion": "sad"}, "unknown emotion 'sad'"),
    ],
)
def test_unknown_emotions(world, asked, word):
    with pytest.raises(UserError, match=word):
        learn_directions(world[0], DirectionSettings(from_token=START), **asked)
