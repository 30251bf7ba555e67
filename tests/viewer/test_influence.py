"""Influence on the metric: by hand, and as the sum over all paths."""

import numpy as np
import pytest
from fixtures.make_circuit import make_circuit

from emocircuits.artifacts.circuit import CircuitGraph, Edge, Node
from emocircuits.errors import UserError
from emocircuits.viewer.influence import cumulative, influence

T = "target/logit_diff"


def test_influence_on_a_graph_worked_by_hand():
    a, b, c = (f"feature/blocks.{i}.hook_resid_post/0" for i in range(3))
    graph = CircuitGraph(
        "b",
        tuple(map(Node.of, (a, b, c, T))),
        (Edge(b, T, -3.0), Edge(c, T, 1.0), Edge(a, b, 2.0), Edge(a, c, 1.0), Edge(b, c, 1.0)),
    )
    # into T: b 3/4, c 1/4; into c: a 1/2, b 1/2; into b: a all. b = 3/4 + 1/4 * 1/2 = 7/8; a = 7/8 + 1/4 *
    # 1/2 = 1
    assert influence(graph) == pytest.approx({a: 1.0, b: 0.875, c: 0.25, T: 0.0})
    assert cumulative(influence(graph), [T]) == pytest.approx({a: 1 / 2.125, b: 1.875 / 2.125, c: 1.0})


def test_influence_equals_the_matrix_sum():
    graph = make_circuit().example
    index = {node.id: i for i, node in enumerate(graph.nodes)}
    matrix = np.zeros((len(index), len(index)))
    for edge in graph.edges:
        matrix[index[edge.target], index[edge.source]] = abs(edge.weight)
    rows = matrix.sum(1, keepdims=True)
    matrix = np.divide(matrix, rows, out=np.zeros_like(matrix), where=rows > 0)
    start = np.array([float(node.kind == "target") for node in graph.nodes])
    expected = start @ (np.linalg.inv(np.eye(len(index)) - matrix) - np.eye(len(index)))
    assert list(influence(graph).values()) == pytest.approx(list(expected), abs=1e-12)


def test_a_cycle_is_refused():
    a, b = "m0", "m1"
    with pytest.raises(UserError, match="cycle"):
        influence(CircuitGraph("b", (Node.of(a), Node.of(b)), (Edge(a, b, 1.0), Edge(b, a, 1.0))))
