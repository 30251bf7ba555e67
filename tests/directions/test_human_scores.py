"""AUROCs on labelled texts against numbers worked out by hand and all permutations; what chance gives."""

from itertools import permutations

import numpy as np
import pytest

from emocircuits.directions.human_scores import (
    HumanSettings,
    bootstrap_means,
    human_score,
    random_means,
    resampled_aurocs,
    shuffled_means,
    two_halves,
    without,
)
from emocircuits.directions.validation import one_vs_others_auroc
from emocircuits.errors import UserError

FEW = HumanSettings(permutations=200, bootstrap=200, random_sets=40)


def test_auroc_by_hand():
    """Texts 3, 1 against 2, 0: three of four pairs are in order. The second column ties one pair of four."""
    scores, labels = np.array([[3.0, 0], [1, 1], [2, 1], [0, 2]]), np.array([0, 0, 1, 1])
    weights = np.array([[1.0, 1, 1, 1], [1, 2, 1, 1], [0, 1, 2, 1]])
    found = resampled_aurocs(scores, labels, weights)
    np.testing.assert_allclose(found[0], [3 / 4, 3.5 / 4])
    # text 1 counts twice: (2 of 2) once and (1 of 2) twice, of 3 × 2 pairs
    np.testing.assert_allclose(found[1], [4 / 6, (1 + 0.5 * 2 + 3) / 6])
    # text 0 is absent, text 2 counts twice: 1 > 0 only, of 1 × 3 pairs
    np.testing.assert_allclose(found[2], [1 / 3, (0.5 * 2 + 1) / 3])


def test_whole_weights_equal_repeated_texts():
    source = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [7, 9, 5])
    scores = source.integers(0, 6, (21, 3)).astype(float)  # many ties
    weights = source.integers(1, 4, (5, 21))
    found = resampled_aurocs(scores, labels, weights.astype(float))
    for row, counts in zip(found, weights, strict=True):
        repeated = np.repeat(np.arange(21), counts)
        np.testing.assert_allclose(row, one_vs_others_auroc(scores[repeated], labels[repeated]), atol=1e-12)


def test_the_planted_score_and_its_interval():
    """Every text of emotion e lies at +1 on axis e, half of the others too, the rest at -1: AUROC is
    1/2 · 1/2 + 1/2 · 1 = 3/4 for every emotion.
    """
    labels = np.repeat([0, 1, 2], 40)
    texts = np.where(np.arange(120)[:, None] % 2 == 0, 1.0, -1.0) * np.ones((1, 3))
    texts[np.arange(120), labels] = 1.0
    score = human_score(texts, labels, np.eye(3), FEW)
    np.testing.assert_allclose(score.auroc.auroc, [0.75] * 3)
    row = score.row()
    assert row["auroc"] == pytest.approx(0.75) and row["p_value"] == pytest.approx(1 / 201)
    assert row["auroc_low"] < 0.75 < row["auroc_high"] and row["auroc_high"] - row["auroc_low"] < 0.1
    assert row["shuffled_p95"] < row["shuffled_max"] < 0.75
    # other resamples spread the same
    assert score.draws.std() == pytest.approx(np.std(bootstrap_means(texts, labels, n=400, seed=9)), rel=0.2)
    assert human_score(texts, labels, np.eye(3), FEW).row() == row


def test_noise_is_within_its_nulls_as_often_as_it_should_be():
    inside, p_values = [], []
    for seed in range(40):
        source = np.random.default_rng(seed)
        labels = np.repeat([0, 1, 2, 3], 30)
        score = human_score(source.standard_normal((120, 12)), labels, np.eye(4, 12), FEW)
        row = score.row()
        p_values.append(row["p_value"])
        inside.append(row["auroc_low"] <= 0.5 <= row["auroc_high"])
        assert score.shuffled.mean() == pytest.approx(0.5, abs=0.01)
        assert abs(score.random.mean() - 0.5) < 0.02
    assert 0.3 < np.mean(p_values) < 0.7 and np.mean(np.array(p_values) <= 0.05) <= 0.15
    assert np.mean(inside) >= 0.85


def test_shuffled_labels_give_what_all_permutations_give():
    scores, labels = np.random.default_rng(2).standard_normal((6, 2)), np.array([0, 0, 1, 1, 1, 1])
    every = [one_vs_others_auroc(scores, labels[list(order)]).mean() for order in permutations(range(6))]
    drawn = shuffled_means(scores, labels, n=4000, seed=0)
    assert {*np.round(drawn, 9)} == {*np.round(every, 9)}
    assert drawn.mean() == pytest.approx(np.mean(every), abs=0.01)
    assert drawn.std() == pytest.approx(np.std(every), rel=0.05)


def test_random_directions_with_the_spread_of_the_texts_are_the_harder_null():
    """Texts vary most along one axis of fifty, on which emotions differ: matched directions lean to it."""
    source = np.random.default_rng(3)
    labels = np.repeat([0, 1], 60)
    texts = source.standard_normal((120, 50))
    texts[:, 0] = 4 * (labels + 0.7 * source.standard_normal(120))
    kinds = [random_means(texts, labels, None, matched=matched, n=200, seed=0) for matched in (False, True)]
    assert kinds[1].std() > 1.3 * kinds[0].std() and abs(kinds[1].mean() - 0.5) < 0.1
    # with that axis out, nothing is left to find
    basis = np.eye(50)[:, :1]
    left = random_means(texts, labels, basis, matched=True, n=200, seed=0)
    assert left.std() < 0.5 * kinds[1].std()


def test_without_takes_out_columns_alone():
    vectors = np.random.default_rng(4).standard_normal((3, 5))
    left = without(vectors, np.eye(5)[:, [1, 3]])
    np.testing.assert_allclose(left, vectors * [1, 0, 1, 0, 1], atol=1e-15)
    assert without(vectors, None) is vectors


def test_halves_share_no_text_and_hold_as_many_of_every_emotion():
    labels = np.repeat([0, 1, 2], [20, 21, 30])
    first, second = two_halves(labels, seed=1)
    assert sorted([*first, *second]) == list(range(71))
    assert (np.abs(np.bincount(labels[first]) - np.bincount(labels[second])) <= 1).all()
    assert not np.array_equal(first, two_halves(labels, seed=2)[0])


def test_settings_are_checked():
    with pytest.raises(UserError, match=r"human.least is 1; expected at least 4"):
        HumanSettings(least=1)
