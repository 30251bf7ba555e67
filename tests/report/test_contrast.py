"""Steering at the largest strength against its controls."""

import pandas as pd
import pytest

from emocircuits.report.contrast import SteeringContrast, steered_column


def test_within_and_outside_the_controls():
    steered = SteeringContrast(
        "b",
        "rate",
        0.5,
        0.2,
        {"desperate": (0.6, 0.5, 0.7)},
        {"random": (20, 0.1, 0.3), "content": (3, 0.5, 0.6)},
    )
    assert steered.within("desperate") == ["content"] and steered.outside("desperate") is False
    assert steered.outside("calm") is None, "an emotion that was not steered"
    alone = SteeringContrast("b", "rate", 0.5, 0.2, steered.rows, {"random": (20, 0.1, 0.3)})
    assert alone.outside("desperate") is True


@pytest.mark.parametrize(
    ("rows", "column"),
    [
        ({"rate": [None, 0.5], "logit_diff": [1.0, 2.0]}, "rate"),
        ({"rate": [None, None], "logit_diff": [1.0, 2.0]}, "logit_diff"),
        ({"logit_diff": [None]}, None),
    ],
)
def test_the_measure_is_the_rate_where_there_is_one(rows, column):
    assert steered_column(pd.DataFrame(rows)) == column
