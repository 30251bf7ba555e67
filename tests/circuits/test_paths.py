"""Paths: amounts worked out by hand, all of them add up, and dynamic programming finds what enumeration
finds.
"""

import networkx as nx
import numpy as np
import pytest

from emocircuits.artifacts.circuit import CircuitGraph, Edge, Node
from emocircuits.circuits.paths import strongest_paths
from emocircuits.errors import UserError


def circuit_of(edges):
    names = dict.fromkeys(name for edge in edges for name in edge[:2])
    return CircuitGraph("b", tuple(Node.of(name) for name in names), tuple(Edge(*edge) for edge in edges))


def random_circuit(rng, n=9):
    names = ["embed", *(f"m{i}" for i in range(n - 2)), "logits"]
    edges = [
        (names[i], names[j], float(rng.normal()))
        for i in range(n)
        for j in range(i + 1, n)
        if rng.random() < 0.6
    ]
    return circuit_of(edges or [("embed", "m0", 1.0), ("m0", "logits", 1.0)]), names


def test_by_hand():
    """embed sends 3 to m0 and 1 to the logits; m0 sends 4 to m1 and 2 to the logits; m1 sends 4 on."""
    circuit = circuit_of(
        [
            ("embed", "m0", 3),
            ("embed", "logits", 1),
            ("m0", "m1", 4),
            ("m0", "logits", 2),
            ("m1", "logits", 4),
        ]
    )
    paths = strongest_paths(circuit, "embed", "logits", 5)
    assert [path.nodes for path in paths] == [
        ("embed", "m0", "m1", "logits"),
        ("embed", "m0", "logits"),
        ("embed", "logits"),
    ]
    np.testing.assert_allclose([path.amount for path in paths], [2, 1, 1])
    np.testing.assert_allclose([path.share for path in paths], [0.5, 0.25, 0.25])


@pytest.mark.parametrize("seed", range(12))
def test_equals_enumeration_and_amounts_add_up(seed):
    circuit, names = random_circuit(np.random.default_rng(seed))
    known = {node.id for node in circuit.nodes}
    if not {"embed", "logits"} <= known:
        pytest.skip("the draw left an end out")
    graph = circuit.to_networkx()
    out = {node: sum(d["weight"] for _, _, d in graph.out_edges(node, data=True)) for node in graph}
    expected = []
    for nodes in nx.all_simple_paths(graph, "embed", "logits"):
        amount = out["embed"]
        for one, other in zip(nodes, nodes[1:], strict=False):
            amount *= graph[one][other]["weight"] / out[one]
        expected.append((abs(amount), tuple(nodes), amount))
    expected.sort(reverse=True)
    found = strongest_paths(circuit, "embed", "logits", 4)
    np.testing.assert_allclose(
        [path.amount for path in found], [amount for _, _, amount in expected[:4]], rtol=1e-9
    )
    every = strongest_paths(circuit, "embed", "logits", 10_000)
    ends = [
        node
        for node in graph
        if graph.out_degree(node) == 0 and node != "logits" and nx.has_path(graph, "embed", node)
    ]
    if not ends:  # nothing leaks out on the way
        assert sum(path.amount for path in every) == pytest.approx(out["embed"], rel=1e-6)


def test_through_a_node_that_cancels_nothing_is_said():
    circuit = circuit_of(
        [("embed", "m0", 1), ("m0", "m1", 1), ("m0", "m2", -1), ("m1", "logits", 1), ("m2", "logits", 1)]
    )
    assert strongest_paths(circuit, "embed", "logits") == ()


def test_bad_input():
    circuit = circuit_of([("embed", "logits", 1)])
    with pytest.raises(UserError, match="has no node 'm7'"):
        strongest_paths(circuit, "m7", "logits")
    with pytest.raises(UserError, match="the 0 strongest paths"):
        strongest_paths(circuit, "embed", "logits", 0)
    with pytest.raises(UserError, match="in a circle"):
        strongest_paths(circuit_of([("m0", "m1", 1), ("m1", "m0", 1), ("m1", "logits", 1)]), "m0", "logits")
    assert strongest_paths(circuit, "logits", "logits") == ()
