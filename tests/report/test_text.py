"""Numbers, names and settings as the report prints them."""

from emocircuits.report.text import esc, flat, listed, number


def test_numbers():
    assert [
        number(value) for value in (None, float("nan"), 0, 0.0, 1234567, -0.1234, 1e-5, 0.5, 12345.6, True)
    ] == [
        "–",
        "–",
        "0",
        "0",
        "1\u2009234\u2009567",
        "−0.123",
        "1.0e-05",
        "0.5",
        "12346",
        "yes",
    ]
    assert number(0.25, sign=True) == "+0.25"


def test_text_is_escaped_and_cleaned():
    assert esc("\x00<") == "\ufffd&lt;"


def test_names_in_a_sentence():
    assert [listed(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_nested_settings_become_rows():
    settings = {"seed": 0, "sae": {"k": 8, "layers": [1, 2.5], "inner": {"on": None}}}
    rows = [("seed", 0), ("sae.k", 8), ("sae.layers", "1, 2.5"), ("sae.inner.on", None)]
    assert flat(settings) == rows
