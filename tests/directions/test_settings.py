"""Default sites, and settings that are refused."""

import pytest
from directions.story_store import START, make_store

from emocircuits.directions import DirectionSettings, learn_directions
from emocircuits.directions.settings import site_at_depth
from emocircuits.errors import UserError
from emocircuits.names import residual_site


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "a.h5")


def test_default_sites():
    sites = tuple(residual_site(layer) for layer in range(6))
    places = [sites.index(site_at_depth(sites, depth, 6)) for depth in (2 / 3, 0.5, 0, 1)]
    assert places == [3, 2, 0, 5]
    some = (residual_site(10), residual_site(15), residual_site(20))
    places = [some.index(site_at_depth(some, depth, 30)) for depth in (2 / 3, 0.5, 0, 1)]
    assert places == [2, 1, 0, 2]


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
