"""The sanitiser: numpy becomes Python, NaN is refused, XML-forbidden characters go, each attribute has one
type.
"""

import networkx as nx
import numpy as np
import pytest

from emocircuits.errors import UserError
from emocircuits.sanitise import sanitise, sanitise_graph, sanitise_text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (None, None),
        ([1, np.int8(2)], "[1,2]"),
        ({"a": None, "b": [np.float64(1)]}, '{"a":null,"b":[1.0]}'),
        (np.arange(2), "[0,1]"),
        ("a\x00b\x1bc\ud800d", "a\ufffdb\ufffdc\ufffdd"),
        ("tab\tnew\nline", "tab\tnew\nline"),
    ],
)
def test_values_become_plain(value, expected):
    assert sanitise(value) == expected
    assert type(sanitise(value)) in (str, int, float, bool, type(None))


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        np.float32("inf"),
        [1.0, float("nan")],
        {"a": {"b": float("inf")}},
        object(),
        {"a": {1, 2}},
    ],
)
def test_what_has_no_plain_form_is_refused(value):
    with pytest.raises(UserError):
        sanitise(value)


def test_each_attribute_gets_one_type():
    graph = nx.DiGraph()
    graph.add_node("a", size=1, mixed=1, gone=None)
    graph.add_node("b", size=np.float32(2.5), mixed="text")
    graph.add_edge("a", "b", weight=np.float64(3))
    copy = sanitise_graph(graph)
    assert copy.nodes["a"] == {"size": 1.0, "mixed": "1"}
    assert type(copy.nodes["a"]["size"]) is float
    assert copy.edges["a", "b"] == {"weight": 3.0}


def test_ids_that_become_equal_are_refused():
    graph = nx.DiGraph()
    graph.add_nodes_from(["a\x00", "a\x01"])
    with pytest.raises(UserError, match="two node ids"):
        sanitise_graph(graph)


def test_carriage_returns_become_newlines():
    assert sanitise_text("a\r\nb\rc") == "a\nb\nc"
