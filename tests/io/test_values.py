"""What is written is read back equal, types included."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from emocircuits.io.values import read_values, write_values


@dataclass(frozen=True)
class Inner:
    name: str
    values: np.ndarray


@dataclass(frozen=True)
class Outer:
    inner: tuple[Inner, ...]
    by_name: dict[str, float]


def same(one, two):
    assert type(one) is type(two)
    if isinstance(one, np.ndarray):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)
    elif isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, two, check_exact=True)
    elif isinstance(one, list | tuple):
        assert len(one) == len(two)
        for left, right in zip(one, two, strict=True):
            same(left, right)
    elif isinstance(one, dict):
        assert list(one) == list(two)
        same(list(one.values()), list(two.values()))
    elif isinstance(one, Inner | Outer):
        same(vars(one), vars(two))
    else:
        assert one == two or (one != one and two != two)


VALUES = (
    3,
    "text",
    None,
    True,
    0.1 + 0.2,
    float("nan"),
    float("inf"),
    np.float64(0.1),
    np.int32(3),
    np.bool_(True),
    [1, (2, [3])],
    {"a": 1, 2: "b", "c": {"d": ()}},
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.array(["x", "yz"]),
    np.zeros((0, 4), dtype=np.int64),
    np.array([True, False]),
    Outer((Inner("a", np.array([1.5])), Inner("b", np.array([], dtype=np.int8))), {"x": 0.5}),
    pd.DataFrame({"a": [1, 2], "b": [0.1, float("nan")], "c": ["x", None], "d": [True, False]}),
    pd.DataFrame({"a": [1.0, 2.0, 3.0]})[lambda table: table["a"] > 1],
    pd.DataFrame(columns=["a", "b"]),
    (pd.DataFrame({"a": pd.Series([1, 2], dtype="int8")}), {"rows": pd.DataFrame({"s": ["p", "q"]})}),
)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_read_back_equal(tmp_path, value):
    write_values(tmp_path / "v", value)
    same(value, read_values(tmp_path / "v", (Inner, Outer)))


def test_what_it_cannot_hold_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(TypeError, match="a object cannot be kept"):
        write_values(tmp_path / "v", [object()])
    assert list(tmp_path.iterdir()) == []
