import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from emocircuits.numerics import (
    benjamini_hochberg,
    bf16_bits,
    bootstrap_interval,
    from_bf16_bits,
    generator,
    wilson_interval,
)


@settings(max_examples=200)
@given(hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(width=32, allow_nan=False)))
def test_bfloat16_bits_are_torchs(values):
    assert np.array_equal(
        from_bf16_bits(bf16_bits(values)), torch.from_numpy(values).bfloat16().float().numpy()
    )


def test_bootstrap_interval_covers_like_the_t_interval():
    values = generator(0, "data").normal(2, 3, size=(400, 2))
    low, high = bootstrap_interval(values, seed=1, n=4000)
    for column in range(2):
        expected = stats.t.interval(0.95, 399, values[:, column].mean(), stats.sem(values[:, column]))
        assert [low[column], high[column]] == pytest.approx(expected, abs=0.05)


def test_wilson_is_scipys():
    expected = stats.binomtest(7, 30).proportion_ci(method="wilson")
    assert wilson_interval(7, 30) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_benjamini_hochberg_by_hand():
    assert benjamini_hochberg(np.array([0.01, 0.04, 0.03, 0.5])) == pytest.approx([0.04, 4 / 75, 4 / 75, 0.5])


def test_generator_depends_on_every_key():
    draws = {
        generator(0).random(),
        generator(0, "a").random(),
        generator(0, "b").random(),
        generator(1, "a").random(),
    }
    assert len(draws) == 4 and generator(0, "a", 3).random() == generator(0, "a", 3).random()
