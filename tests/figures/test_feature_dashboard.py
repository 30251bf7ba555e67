"""Which feature the dashboard shows, and what of it."""

import pytest

from emocircuits.artifacts.circuit import CircuitGraph, Node
from emocircuits.errors import UserError
from emocircuits.figures.feature_dashboard import _chosen, _table
from emocircuits.limits import DASHBOARD_EXAMPLES, DASHBOARD_TOKENS, DASHBOARD_WORDS

EXAMPLE = {"tokens": [" a", " b"], "values": [0.1, 0.9]}


def feature(number, effect, q_value=None, examples=(EXAMPLE,)):
    details = {
        "examples": list(examples),
        "emotions": [{"emotion": "calm", "delta": 1.0, "q_value": q_value}],
    }
    return Node.of(f"feature/blocks.0.hook_resid_post/{number}", effect=effect, details=details)


def test_the_largest_effect_among_significant_matches_is_shown():
    nodes = (feature(1, -3.0, 0.2), feature(2, 1.0, 0.01), feature(3, -2.0, 0.05), feature(4, 9.0, 0.01, ()))
    assert _chosen(CircuitGraph("b", nodes, ())).feature == 3
    assert _chosen(CircuitGraph("b", (nodes[0], feature(5, 0.5)), ())).feature == 1, (
        "no match: any with texts"
    )
    assert _chosen(CircuitGraph("b", (nodes[3],), ())) is None


def test_the_table_holds_no_more_than_fits():
    words = [f" w{i}" for i in range(40)]
    example = {"tokens": words, "values": list(range(40))}
    details = {"examples": [example] * 9, "top_tokens": words, "bottom_tokens": words, "emotions": []}
    table = _table(Node.of("feature/blocks.0.hook_resid_post/1", effect=1.0, details=details))
    counts = table.groupby("part").size()
    assert counts["top"] == counts["bottom"] == DASHBOARD_WORDS
    assert counts["example"] == DASHBOARD_EXAMPLES * DASHBOARD_TOKENS
    assert table[table.part == "example"].text.iloc[-1] == " w39", "the end of a text is kept"


def test_details_that_are_not_whole_are_named():
    broken = feature(1, 1.0, 0.01, [{"tokens": ["a"], "values": []}])
    with pytest.raises(UserError, match="feature/blocks.0.hook_resid_post/1 are not whole.*'circuit'"):
        _table(broken)
