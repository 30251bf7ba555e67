"""Blocks that are run once more change nothing, and a long prompt takes little more than its model."""

import pytest
from benchmarks.attribution_scale import QUICK, measured


@pytest.mark.slow
def test_a_long_prompt_takes_less_than_dense_features_would():
    found = measured({**QUICK, "d_sae": 16384})
    assert found["peak_gib"] - found["before_gib"] < found["dense_features_gib"]
