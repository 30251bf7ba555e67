"""Directions are read as they were written."""

import pytest
from directions.story_store import START, make_store

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.directions import DirectionSettings, learn_directions


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "a.h5")


def test_save_and_load(world, tmp_path):
    store, _ = world
    found = learn_directions(store, DirectionSettings(from_token=START))
    found.save(tmp_path / "d.h5")
    assert EmotionDirections.load(tmp_path / "d.h5").content_hash == found.content_hash
