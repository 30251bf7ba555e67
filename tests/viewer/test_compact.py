"""Texts once, four digits, no empty column."""

from emocircuits.artifacts.circuit import Node
from emocircuits.viewer.compact import Texts, number_columns, short


def test_a_text_is_stored_once():
    texts = Texts()
    assert [texts(text) for text in ("a", "b", "a")] == [0, 1, 0]
    assert list(texts.numbers) == ["a", "b"]


def test_numbers_have_four_digits_and_whole_ones_no_point():
    assert [short(value) for value in (None, 0.123456, 123456.0, 2.0, -0.0)] == [None, 0.1235, 123500, 2, 0]
    assert isinstance(short(2.0), int) and short(1.23456, 2) == 1.2


def test_a_column_that_nobody_measured_is_left_out():
    nodes = [Node.of("m0", effect=0.5), Node.of("m1")]
    assert number_columns(nodes, {"effect": "effect", "low": "ci_low"}) == {"effect": [0.5, None]}
