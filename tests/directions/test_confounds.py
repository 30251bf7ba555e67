"""Topics that give emotions away."""

import numpy as np
import pytest
from directions.direction_world import labelled, plain_store
from scipy.stats.contingency import association

from emocircuits.directions import (
    DirectionSettings,
    learn_directions,
)
from emocircuits.directions.confounds import check_confound, topic_confound
from emocircuits.errors import UserError


def test_a_topic_that_gives_the_emotion_away_is_refused_or_told(tmp_path):
    x, labels = labelled(per_label=20)
    splits = np.where(np.arange(len(x)) % 4 == 0, "held_out", "train")
    store = plain_store(tmp_path / "a.h5", x, labels, splits=splits, topics=labels)
    with pytest.raises(UserError, match=r"Cramér's V 1.00, AUROC of the topic alone 1.00"):
        learn_directions(store, DirectionSettings(from_token=1))
    found = learn_directions(store, DirectionSettings(from_token=1, max_topic_v=1.0))
    assert found.settings["topic_cramers_v"] == pytest.approx(1.0)


def test_confound_equals_scipy_but_for_the_correction():
    source = np.random.default_rng(0)
    labels, topics = source.integers(0, 4, 4000), source.integers(0, 5, 4000)
    tied = np.where(source.random(4000) < 0.5, labels, topics)
    table = np.zeros((4, 5))
    np.add.at(table, (labels, tied), 1)
    found = topic_confound(labels, tied, labels, tied, 4, 5)
    assert found.cramers_v == pytest.approx(association(table.astype(int), method="cramer"), abs=0.01)
    assert found.auroc > 0.7 and found.warning
    independent = topic_confound(labels, topics, labels, topics, 4, 5)
    assert (
        independent.cramers_v < 0.03
        and independent.auroc == pytest.approx(0.5, abs=0.03)
        and not independent.warning
    )
    with pytest.raises(UserError, match="the topic predicts the emotion"):
        check_confound(found, limit=0.3, centre="emotions")
    check_confound(found, limit=0.3, centre="topics")


def test_few_stories_are_no_confound_and_no_topics_are_none():
    """Every story its own topic: the raw V is 1, the corrected one is not."""
    labels = np.repeat(np.arange(5), 4)
    own = np.arange(20)
    assert topic_confound(labels, own, labels, own, 5, 20).cramers_v < 0.3
    none = np.full(20, -1)
    assert topic_confound(labels, none, labels, none, 5, 0) == topic_confound(
        labels, none, labels, none, 5, 1
    )
    assert topic_confound(labels, none, labels, none, 5, 0).cramers_v == 0
