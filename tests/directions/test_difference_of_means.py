"""Centres by hand, and what is projected out."""

import numpy as np
from directions.direction_world import labelled, statistics

from emocircuits.directions import ESTIMATORS, EstimatorOptions


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def fit(name, found, **options):
    return ESTIMATORS.get(name).fit(found, EstimatorOptions(**options))


def test_the_centre_topics_removes_what_topics_explain():
    """Two topics, far apart; emotion 0 is told mostly in topic 0. Without the centre its direction is half a
    topic.
    """
    source = np.random.default_rng(0)
    labels = np.repeat([0, 1], 2000)
    topics = np.where(source.random(4000) < np.where(labels == 0, 0.8, 0.2), 0, 1)
    truth, place = np.array([1.0, 0, 0, 0]), np.array([0, 5.0, 0, 0])
    x = np.outer(labels == 0, truth) + np.outer(topics == 0, place) + 0.5 * source.standard_normal((4000, 4))
    found = statistics(x, labels, topics=topics)
    plain, centred = (
        unit(fit("difference_of_means", found)[0]),
        unit(fit("difference_of_means", found, centre="topics")[0]),
    )
    assert abs(plain[0]) < 0.5 < 0.98 < centred[0]


def test_neutral_components_are_projected_out():
    x, labels = labelled()
    direction = unit(np.random.default_rng(3).standard_normal(x.shape[1]))
    found = statistics(x, labels, neutral_cov=10 * np.outer(direction, direction) + 0.01 * np.eye(x.shape[1]))
    for name in ("difference_of_means", "contrast_pca"):
        assert np.abs(fit(name, found, neutral_variance=0.5) @ direction).max() < 1e-9
        assert np.abs(fit(name, found, neutral_variance=0.0) @ direction).max() > 0.05
