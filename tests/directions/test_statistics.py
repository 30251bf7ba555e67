"""One streaming pass against plain NumPy over all stories: means, halves, replicates, controls; memory that
does not grow.
"""

import numpy as np
import pytest
from directions.direction_world import gathered, labelled, plain_store, shuffled_stories, statistics

from emocircuits.directions import (
    DirectionSettings,
    learn_directions,
    story_blocks,
)
from emocircuits.directions.statistics import replicate_weights
from emocircuits.errors import UserError


@pytest.mark.parametrize("chunk", [2048, 5])
def test_one_pass_equals_plain_means(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(story_blocks, "BLOCK_ROWS", 33)
    store, x, labels, fit, topics = shuffled_stories(tmp_path)
    design, found = gathered(store, chunk=chunk)
    plain = statistics(x[fit], labels[fit], topics=topics[fit])
    np.testing.assert_allclose(found.emotions.means, plain.means, atol=1e-5)
    np.testing.assert_allclose(found.emotions.within_cov, plain.within_cov, atol=1e-4)
    np.testing.assert_allclose(found.emotions.topic_share, plain.topic_share, atol=1e-12)
    np.testing.assert_allclose(found.topics.means, plain.topic_means, atol=1e-5)
    np.testing.assert_allclose(found.total_cov, np.cov(x[fit].T, bias=True), atol=1e-4)
    np.testing.assert_allclose(found.held_out, x[~fit], atol=1e-5)
    for number, codes in enumerate(design.permuted):
        assert sorted(codes[fit]) == sorted(labels[fit]) and not np.array_equal(codes[fit], labels[fit])
        np.testing.assert_allclose(
            found.shuffled.means[number], statistics(x[fit], codes[fit]).means, atol=1e-5
        )
    for split in range(3):
        for half in (0, 1):
            own = fit & (design.halves[split] == half)
            np.testing.assert_allclose(
                found.halves.means[split, half], statistics(x[own], labels[own]).means, atol=1e-5
            )
    weights = np.concatenate(
        [replicate_weights(design, first, min(chunk, len(x) - first)) for first in range(0, len(x), chunk)]
    )
    for replicate in range(7):
        plain = statistics(x[fit], labels[fit], weights[fit, replicate].astype(float))
        np.testing.assert_allclose(found.replicates.means[replicate], plain.means, atol=1e-4)
        np.testing.assert_allclose(found.replicates.weights[replicate], plain.weights, rtol=1e-5)


@pytest.mark.parametrize(
    "settings, word",
    [
        ({"to_depth": 0.4}, "no site lies between"),
        ({"content_controls": 3}, "fewer than two topics"),
        ({"centre": "nothing"}, "unknown directions.centre"),
    ],
)
def test_bad_settings(tmp_path, settings, word):
    x, labels = labelled()
    store = plain_store(
        tmp_path / "a.h5", x, labels, splits=np.where(np.arange(len(x)) % 4 == 0, "held_out", "train")
    )
    with pytest.raises(UserError, match=word):
        learn_directions(store, DirectionSettings(**{"from_token": 1, "content_controls": 0, **settings}))
