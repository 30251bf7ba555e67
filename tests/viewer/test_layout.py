"""The grid: rows by computation, columns by token, nothing on top of anything else."""

import itertools

from fixtures.make_circuit import make_circuit
from fixtures.nasty_circuits import every_circuit

from emocircuits.artifacts.circuit import CircuitGraph, Node
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
