"""Every estimator against another library or a loop; laws that all of them keep."""

import numpy as np
import pytest
from directions.direction_world import labelled, statistics
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from emocircuits.directions import ESTIMATORS, EstimatorOptions
from emocircuits.directions.difference_of_means import centred_means
from emocircuits.errors import Failure, UserError


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def fit(name, found, **options):
    return ESTIMATORS.get(name).fit(found, EstimatorOptions(**options))


@pytest.mark.parametrize("name", ESTIMATORS.names())
def test_directions_scale_and_turn_with_the_data_and_flip_with_it(name):
    x, labels = labelled()
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((x.shape[1],) * 2))[0]
    options = {"neutral_variance": 0.0}
    plain = unit(fit(name, statistics(x, labels), **options))
    np.testing.assert_allclose(unit(fit(name, statistics(3 * x, labels), **options)), plain, atol=2e-5)
    np.testing.assert_allclose(unit(fit(name, statistics(-x, labels), **options)), -plain, atol=2e-5)
    np.testing.assert_allclose(
        unit(fit(name, statistics(x @ turn, labels), **options)), plain @ turn, atol=2e-5
    )


@pytest.mark.parametrize("name", ESTIMATORS.names())
def test_positive_means_more_of_the_class(name):
    x, labels = labelled(distance=3.0)
    raw = fit(name, statistics(x, labels))
    for label, direction in enumerate(raw):
        scores = x @ direction
        assert scores[labels == label].mean() > scores[labels != label].mean()


@pytest.mark.parametrize("name", [card.name for card in ESTIMATORS if not card.needs_stories])
def test_many_draws_at_once_equal_one_by_one(name):
    x, labels = labelled()
    draws = np.random.default_rng(0).standard_exponential((2, 3, len(x)))
    each = [[statistics(x, labels, weights) for weights in row] for row in draws]
    one = each[0][0]
    stacked = type(one)(
        **{
            **vars(one),
            "means": np.stack([[s.means for s in row] for row in each]),
            "weights": np.stack([[s.weights for s in row] for row in each]),
        }
    )
    expected = [
        [fit(name, type(one)(**{**vars(s), "within_cov": one.within_cov})) for s in row] for row in each
    ]
    np.testing.assert_allclose(fit(name, stacked), expected, atol=1e-9)


def test_centres_by_hand():
    x, labels = labelled()
    found = statistics(x, labels)
    for label in range(labels.max() + 1):
        own, others = x[labels == label].mean(axis=0), x[labels != label].mean(axis=0)
        np.testing.assert_allclose(centred_means(found, "others")[label], own - others, atol=1e-12)
        np.testing.assert_allclose(centred_means(found, "stories")[label], own - x.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(
            centred_means(found, "emotions")[label], own - found.means.mean(axis=0), atol=1e-12
        )
        np.testing.assert_allclose(fit("one_vs_others", found)[label], own - others, atol=1e-12)
        # neutral text has mean 0 here
        np.testing.assert_allclose(fit("vs_neutral", found)[label], own, atol=1e-12)
    with pytest.raises(UserError, match="needs stories with topics"):
        centred_means(found, "topics")
    with pytest.raises(UserError, match="did you mean 'topics'"):
        EstimatorOptions(centre="topic")


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


def test_linear_discriminant_equals_scikit_learn():
    x, labels = labelled()
    oracle = LinearDiscriminantAnalysis(solver="lsqr").fit(x, labels)
    found = fit("linear_discriminant", statistics(x, labels), penalty=0.0)
    np.testing.assert_allclose(found, oracle.coef_ - oracle.coef_.mean(axis=0), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("penalty", [0.3, 1.0])
def test_logistic_probes_equal_scikit_learn(penalty):
    x, labels = labelled(per_label=40)
    n_labels = int(labels.max()) + 1
    found = fit("logistic_probe", statistics(x, labels), penalty=penalty)
    centred = x - x.mean(axis=0)
    scale = np.sqrt((centred**2).mean())
    rate = 1 / n_labels * (1 - 1 / n_labels)
    for label in range(n_labels):
        oracle = LogisticRegression(C=1 / (len(x) * penalty * rate), tol=1e-10, max_iter=10_000).fit(
            centred / scale, labels == label
        )
        np.testing.assert_allclose(found[label], oracle.coef_[0] / scale, rtol=2e-3, atol=2e-4)


def test_logistic_probes_with_story_weights_equal_repeated_stories():
    x, labels = labelled()
    counts = np.random.default_rng(0).integers(1, 4, len(x))
    twice = fit("logistic_probe", statistics(np.repeat(x, counts, axis=0), np.repeat(labels, counts)))
    once = statistics(x, labels, counts.astype(float))
    np.testing.assert_allclose(fit("logistic_probe", once), twice, rtol=1e-3, atol=1e-4)


def test_contrast_pca_equals_a_loop():
    x, labels = labelled()
    found = fit("contrast_pca", statistics(x, labels))
    for label in range(labels.max() + 1):
        contrasts = x[labels == label] - x[labels != label].mean(axis=0)
        values, vectors = np.linalg.eigh(contrasts.T @ contrasts / len(contrasts))
        first = vectors[:, -1] * np.sign(contrasts.mean(axis=0) @ vectors[:, -1])
        np.testing.assert_allclose(found[label], np.sqrt(values[-1]) * first, atol=1e-9)


@pytest.mark.parametrize("name", [card.name for card in ESTIMATORS if card.needs_stories])
def test_estimators_that_need_stories_say_so(name):
    x, labels = labelled()
    with pytest.raises(Failure, match="was given no stories"):
        fit(name, type(statistics(x, labels))(**{**vars(statistics(x, labels)), "stories": None}))
