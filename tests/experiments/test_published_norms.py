"""Directions against published ratings: which ratings count, left-out predictions by refitting, and p."""

from math import factorial

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from emocircuits.experiments.geometry import principal_components
from emocircuits.experiments.published_norms import (
    COLUMNS,
    left_out_ridge,
    norm_table,
    published_norms,
)


def test_only_ratings_with_a_published_source_count():
    valence, arousal = published_norms("valence"), published_norms("arousal")
    assert len(valence) == 44 and len(arousal) == 40
    assert valence["happy"] == 0.81 and arousal["bored"] == -0.62
    assert "desperate" not in valence and "guilty" in valence and "guilty" not in arousal


def test_left_out_predictions_equal_refitting_without_each_emotion():
    source = np.random.default_rng(0)
    vectors, values = source.standard_normal((9, 5)) * [3, 1, 1, 2, 0.2] + 4, source.standard_normal((3, 9))
    found = left_out_ridge(vectors, values)
    centred = vectors - vectors.mean(axis=0)
    penalty = (centred**2).sum() / 8
    for draw in range(3):
        for out in range(9):
            rest = np.arange(9) != out
            model = Ridge(alpha=penalty).fit(vectors[rest], values[draw, rest])
            assert found[draw, out] == pytest.approx(model.predict(vectors[out : out + 1])[0], abs=1e-9)


def emotions_with(n):
    """n emotions that have both ratings, and two that have none."""
    both = [emotion for emotion in published_norms("arousal") if emotion in published_norms("valence")]
    return (*both[:n], "desperate", "jealous")


def directions_of(emotions, noise=0.0, seed=0):
    """Vectors whose first axis is the valence rating, and the second the arousal rating."""
    source = np.random.default_rng(seed)
    vectors = noise * source.standard_normal((len(emotions), 20))
    for column, name in enumerate(("valence", "arousal")):
        norms = published_norms(name)
        vectors[:, column] += [norms.get(emotion, 0.0) for emotion in emotions]
    return vectors


def test_ratings_that_the_directions_hold_are_found_with_the_smallest_p():
    emotions = emotions_with(5)
    table = norm_table(directions_of(emotions, noise=0.02), emotions)
    assert list(table.columns) == list(COLUMNS) and (table["n"] == 5).all()
    assert table["smallest_p"].tolist() == pytest.approx([1 / factorial(5)] * 4)
    many = emotions_with(30)
    full = norm_table(directions_of(many, noise=0.05), many, n_permutations=400)
    assert (full["n"] == 30).all() and (full["p_value"] == 1 / 400).all()
    # the ratings are correlated, so the components are mixtures of the two axes, which the ridge undoes
    assert full["r"][full["reading"] == "ridge"].min() > 0.95
    assert full["r"][full["reading"] == "component"].between(0.7, 0.95).all()
    assert (full["ci_low"] < full["r"]).all() and (full["r"] < full["ci_high"]).all()


def test_r_of_the_best_component_by_hand():
    emotions = emotions_with(12)
    vectors = directions_of(emotions, noise=0.5, seed=3)
    row = norm_table(vectors, emotions, n_permutations=50).iloc[0]
    norms = published_norms("valence")
    scores = principal_components(vectors, 3).scores[:12]
    by_hand = [abs(np.corrcoef(scores[:, c], [norms[e] for e in emotions[:12]])[0, 1]) for c in range(3)]
    assert row["r"] == pytest.approx(max(by_hand)) and row["component"] == 1 + int(np.argmax(by_hand))


def test_noise_has_no_small_p():
    emotions = emotions_with(15)
    tables = [
        norm_table(np.random.default_rng(seed).standard_normal((17, 20)), emotions, n_permutations=100)
        for seed in range(60)
    ]
    for reading in ("component", "ridge"):
        p = np.concatenate([table.loc[table["reading"] == reading, "p_value"] for table in tables])
        assert 0.4 < p.astype(float).mean() < 0.62 and (p <= 0.05).mean() < 0.12
    # leaving out pulls predictions of noise to the other side: r alone would mislead
    assert np.mean([table.loc[table["reading"] == "ridge", "r"].mean() for table in tables]) < -0.1


def test_fewer_than_four_rated_emotions_give_no_r():
    emotions = emotions_with(3)
    table = norm_table(directions_of(emotions), emotions)
    assert table["n"].tolist() == [3] * 4 and table[["r", "p_value", "smallest_p"]].isna().all(axis=None)
