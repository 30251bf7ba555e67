"""Geometry of directions against scikit-learn, SciPy and planted coordinates."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from emocircuits.errors import UserError
from emocircuits.experiments.geometry import (
    adjusted_rand,
    best_correlation,
    cluster_emotions,
    coordinate_correlations,
    cosine_matrix,
    layer_similarity,
    principal_components,
)


def planted(n=40, d=16):
    source = np.random.default_rng(0)
    valence, arousal = source.standard_normal((2, n))
    axes = np.linalg.qr(source.standard_normal((d, d)))[0]
    vectors = (
        3 * valence[:, None] * axes[0]
        + 1.5 * arousal[:, None] * axes[1]
        + 0.2 * source.standard_normal((n, d))
    )
    emotions = tuple(f"e{number}" for number in range(n))
    return (
        vectors.astype(np.float32),
        emotions,
        pd.DataFrame({"emotion": emotions, "valence": valence, "arousal": arousal, "source": "made"}),
    )


def test_components_equal_scikit_learn():
    vectors, _, _ = planted()
    found, oracle = principal_components(vectors, 3), PCA(3).fit(vectors.astype(np.float64))
    np.testing.assert_allclose(np.abs((found.components * oracle.components_).sum(axis=1)), 1, atol=1e-9)
    np.testing.assert_allclose(found.explained, oracle.explained_variance_ratio_, rtol=1e-6)
    np.testing.assert_allclose(np.abs(found.scores), np.abs(oracle.transform(vectors)), atol=1e-4)


def test_planted_coordinates_are_found():
    vectors, emotions, coordinates = planted()
    table = coordinate_correlations(vectors, emotions, coordinates)
    assert set(table["coordinate"]) == {"valence", "arousal"}
    assert best_correlation(table, "valence") > 0.95 and best_correlation(table, "arousal") > 0.9
    first = table[(table["coordinate"] == "valence") & (table["component"] == 1)].iloc[0]
    scores = PCA(1).fit_transform(vectors)[:, 0]
    assert first["abs_r"] == pytest.approx(abs(np.corrcoef(scores, coordinates["valence"])[0, 1]), abs=1e-5)


def test_coordinates_of_some_emotions_only():
    vectors, emotions, coordinates = planted()
    assert coordinate_correlations(vectors, emotions, coordinates.iloc[:20])[
        "n_emotions"
    ].unique().tolist() == [20]
    with pytest.raises(UserError, match="2 of 40"):
        coordinate_correlations(vectors, emotions, coordinates.iloc[:2])


def test_intervals_of_correlations_equal_scipy():
    vectors, emotions, coordinates = planted(n=30)
    row = (
        coordinate_correlations(vectors, emotions, coordinates)
        .query("coordinate == 'valence' and component == 1")
        .iloc[0]
    )
    interval = pearsonr(PCA(1).fit_transform(vectors)[:, 0], coordinates["valence"]).confidence_interval()
    assert sorted((row.ci_low, row.ci_high)) == pytest.approx(sorted(np.abs(interval)), abs=1e-4)


def test_clusters_are_as_tight_as_those_of_scikit_learn_and_stable_where_they_are_clear():
    source = np.random.default_rng(0)
    groups = np.repeat(np.arange(4), [12, 9, 8, 5])
    vectors = np.linalg.qr(source.standard_normal((16, 16)))[0][:4][groups] + 0.1 * source.standard_normal(
        (34, 16)
    )
    labels, agreement = cluster_emotions(vectors.astype(np.float32), 4)
    assert (
        adjusted_rand(labels, groups) == 1
        and np.bincount(labels).tolist() == [12, 9, 8, 5]
        and agreement > 0.7
    )
    noise = source.standard_normal((60, 8))
    unit = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    labels, agreement = cluster_emotions(noise, 6)
    inertia = sum(((unit[labels == one] - unit[labels == one].mean(axis=0)) ** 2).sum() for one in range(6))
    assert inertia <= 1.05 * KMeans(6, n_init=20, random_state=0).fit(unit).inertia_ and agreement < 0.8
    with pytest.raises(UserError, match="40 clusters of 34"):
        cluster_emotions(vectors, 40)


def test_adjusted_rand_equals_scikit_learn():
    source = np.random.default_rng(0)
    first, second = source.integers(0, 5, 80), source.integers(0, 4, 80)
    mixed = np.where(source.random(80) < 0.6, first, second)
    for one, two in ((first, second), (first, mixed), (first, first)):
        assert adjusted_rand(one, two) == pytest.approx(adjusted_rand_score(one, two))


def test_likeness_of_layers_equals_scipy():
    source = np.random.default_rng(0)
    first = source.standard_normal((25, 10))
    vectors = np.stack(
        [first, first + 0.5 * source.standard_normal((25, 10)), source.standard_normal((25, 10))]
    ).astype(np.float32)
    table = layer_similarity(vectors, ("a", "b", "c")).set_index(["site", "other"])
    upper = np.triu_indices(25, 1)
    cosines = [cosine_matrix(one.astype(np.float64))[upper] for one in vectors]
    for i, one in enumerate("abc"):
        for j, two in enumerate("abc"):
            assert table.loc[(one, two), "rho"] == pytest.approx(
                spearmanr(cosines[i], cosines[j]).statistic, abs=1e-6
            )
    assert (
        table.loc[("a", "b"), "ci_low"] > 0.3
        and table.loc[("a", "c"), "ci_low"] < 0.1 < 0.9 < table.loc[("a", "a"), "ci_high"]
    )
