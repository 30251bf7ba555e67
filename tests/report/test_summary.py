"""The rules of `summary.json`: the best match, and no number that is not finite."""

import pandas as pd
import pytest

from emocircuits.errors import Failure
from emocircuits.report.summary import _best_match, _check_finite

MATCHES = pd.DataFrame(
    [
        ("desperate", "a", 1, 0.1, 0.9, 0.001, 5.0, False),
        ("desperate", "a", 2, 0.2, 0.8, 0.010, 1.0, True),
        ("desperate", "b", 3, 0.3, 0.7, 0.010, 2.0, True),
        ("calm", "a", 4, 0.4, 0.6, 0.200, 3.0, False),
        ("calm", "a", 5, 0.5, 0.5, 0.100, 1.0, False),
    ],
    columns=["emotion", "site", "feature", "cosine", "auroc", "q_value", "delta", "kept"],
)


def test_a_kept_match_comes_before_a_smaller_q_value_and_the_larger_delta_first():
    best = _best_match(MATCHES, "desperate")
    assert best == {"site": "b", "feature": 3, "cosine": 0.3, "auroc": 0.7, "q_value": 0.01, "kept": True}


def test_without_a_kept_match_the_smallest_q_value_is_said_not_to_be_kept():
    best = _best_match(MATCHES, "calm")
    assert (best["feature"], best["kept"]) == (5, False)


def test_an_emotion_without_rows_is_a_failure():
    with pytest.raises(Failure, match="no row for 'happy'.*match stage"):
        _best_match(MATCHES, "happy")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_named(value):
    with pytest.raises(Failure, match=r"summary\.saes\.a\.fvu is (nan|inf)"):
        _check_finite({"n": 1, "saes": {"a": {"l0": 2.0, "fvu": value}}}, "summary")
    _check_finite({"n": 1, "saes": {"a": {"fvu": 0.5}}, "warnings": ["x"]}, "summary")
