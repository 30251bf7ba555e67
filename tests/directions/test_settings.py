"""Default sites, and settings that are refused."""

import pytest
from directions.story_store import START, make_store

from emocircuits.directions import DirectionSettings, learn_directions
from emocircuits.directions.settings import site_at_depth
from emocircuits.errors import UserError


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "a.h5")


def test_default_sites():
    sites = tuple("abcdef")
    assert (
        site_at_depth(sites, 2 / 3),
        site_at_depth(sites, 0.5),
        site_at_depth(sites, 0),
        site_at_depth(sites, 1),
    ) == ("d", "c", "a", "f")


@pytest.mark.parametrize(
    "settings, word",
    [
        (DirectionSettings(from_token=200), "200 tokens"),
        (DirectionSettings(from_token=START, held_out_split="score"), "has 0 stories in the split 'score'"),
        (DirectionSettings(from_token=START, min_stories=50), "at least 50"),
        (DirectionSettings(from_token=START, neutral_kinds=("poem",)), "no neutral text"),
        (DirectionSettings(from_token=START, content_topics=("raim",)), "did you mean 'rain'"),
        (DirectionSettings(from_token=START, estimator="magic"), "difference_of_means"),
    ],
)
def test_bad_settings(world, settings, word):
    with pytest.raises(UserError, match=word):
        learn_directions(world[0], settings)
