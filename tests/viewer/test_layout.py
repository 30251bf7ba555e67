"""The grid: rows by computation, columns by token, nothing on top of anything else."""

import itertools

import pytest
from fixtures.make_circuit import make_circuit
from fixtures.nasty_circuits import every_circuit

from emocircuits.artifacts.circuit import CircuitGraph, Edge, Node
from emocircuits.errors import UserError
from emocircuits.viewer.influence import cumulative, influence
from emocircuits.viewer.layout import grid

T = "target/logit_diff"


@every_circuit
def test_no_two_nodes_share_a_place(circuit):
    for graph in (circuit, circuit.example or circuit):
        layout = grid(graph)
        assert set(layout.places) == {node.id for node in graph.nodes}
        for (ax, ay), (bx, by) in itertools.combinations(layout.places.values(), 2):
            assert abs(ax - bx) > 0.9 or abs(ay - by) > 0.9
        for x, y in layout.places.values():
            assert 0 <= x <= layout.width
            assert 0 <= y <= layout.height


def test_links_go_up_and_columns_follow_positions():
    graph = make_circuit().example
    places = grid(graph).places
    for edge in graph.edges:
        assert places[edge.source][1] < places[edge.target][1]
    for a, b in itertools.combinations([node for node in graph.nodes if node.position is not None], 2):
        if a.position < b.position:
            assert places[a.id][0] < places[b.id][0]


def test_row_labels():
    nodes = (
        Node.of("token/p0"),
        Node.of("m1/p0"),
        Node.of("a1.h0/p0"),
        Node.of("feature/blocks.1.hook_resid_post/0/p0"),
        Node.of("target/logit_diff"),
    )
    assert [row.label for row in grid(CircuitGraph("b", nodes, ())).rows] == [
        "tokens",
        "layer 1 attn",
        "layer 1 mlp",
        "layer 1",
        "metric",
    ]


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
    import numpy as np

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
