"""Every estimator: scale, rotation, sign, and many draws at once."""

import numpy as np
import pytest
from directions.direction_world import labelled, statistics

from emocircuits.directions import ESTIMATORS, EstimatorOptions
from emocircuits.errors import Failure


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


@pytest.mark.parametrize("name", [card.name for card in ESTIMATORS if card.needs_stories])
def test_estimators_that_need_stories_say_so(name):
    x, labels = labelled()
    with pytest.raises(Failure, match="was given no stories"):
        fit(name, type(statistics(x, labels))(**{**vars(statistics(x, labels)), "stories": None}))
