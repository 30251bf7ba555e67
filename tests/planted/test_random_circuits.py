"""Random circuits out of known parts: what brute force finds the verified search finds, for less than half
the passes.
"""

import numpy as np
import pytest

from tests.benchmarks.random_circuits import judged


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [12, pytest.param(24, marks=pytest.mark.slow)])
def test_the_search_finds_what_brute_force_finds(count):
    circuits = list(judged(range(count)))
    assert len(circuits) > 0.75 * count and max(len(one.truth) for one in circuits) > 5
    for one in circuits:
        assert one.found == one.truth, one.seed
        assert one.verified == 1.0 and one.share <= 0.4, one.seed
    assert np.mean([one.gradient >= 0.97 for one in circuits]) > 0.9
