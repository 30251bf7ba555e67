"""Controls carry no emotion and are made with the same care."""

import numpy as np
import pytest
from directions.direction_world import labelled, plain_store, statistics
from directions.story_store import START, make_store
from sklearn.metrics import roc_auc_score

from emocircuits.directions import (
    DirectionSettings,
    learn_directions,
    summarise,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "a.h5")


def test_controls(world):
    store, _ = world
    found = learn_directions(store, DirectionSettings(from_token=START, content_topics=("rain", "music")))
    assert found.controls["content"].names == ("rain", "music")
    assert len(found.controls["random"].names) == 20 and len(found.controls["shuffled"].names) == 5
    cosines = found.controls["random"].vectors[0] @ found.controls["random"].vectors[0].T
    assert np.abs(cosines - np.eye(20)).max() < 0.98
    summary = summarise(store, from_token=START)
    held = summary.of_split("held_out")
    rain = summary.stories["topic"].to_numpy()[held] == "rain"
    assert roc_auc_score(rain, summary.story_means[held, 0] @ found.controls["content"].vectors[0, 0]) > 0.8


def test_covariance_controls_follow_the_spread_of_stories(tmp_path):
    x, labels = labelled(per_label=200, d=6)
    splits = np.where(np.arange(len(x)) % 5 == 0, "held_out", "train")
    store = plain_store(tmp_path / "a.h5", x, labels, splits=splits)
    found = learn_directions(
        store,
        DirectionSettings(
            from_token=1,
            neutral_variance=0.0,
            covariance_controls=3000,
            random_controls=3000,
            content_controls=0,
            bootstrap=0,
            splits=0,
        ),
    )
    fit = splits == "train"
    within = statistics(x[fit], labels[fit]).within_cov
    energy = {
        kind: np.einsum("cd,de,ce->c", control.vectors[0], within, control.vectors[0]).mean()
        / np.trace(within)
        for kind, control in found.controls.items()
        if kind in ("random", "covariance")
    }
    draws = np.random.default_rng(0).multivariate_normal(np.zeros(6), within, 20_000)
    draws /= np.linalg.norm(draws, axis=1, keepdims=True)
    assert energy["covariance"] == pytest.approx(
        np.einsum("cd,de,ce->c", draws, within, draws).mean() / np.trace(within), rel=0.05
    )
    assert energy["random"] == pytest.approx(1 / 6, rel=0.1) and energy["covariance"] > 1.5 * energy["random"]
