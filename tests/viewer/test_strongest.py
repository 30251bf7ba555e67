"""The part of a circuit that a picture holds."""

from fixtures.make_circuit import make_circuit

from emocircuits.viewer.strongest import strongest_part


def test_the_metric_and_the_largest_effects_stay():
    graph = make_circuit().example
    small = strongest_part(graph, 5)
    targets = [node for node in graph.nodes if node.kind == "target"]
    others = [node for node in graph.nodes if node.kind != "target"]
    others.sort(key=lambda node: -abs(node.effect or 0.0))
    kept = {node.id for node in (*targets, *others)[:5]}
    assert {node.id for node in small.nodes} == kept
    assert all(edge.source in kept and edge.target in kept for edge in small.edges)
    assert small.thresholds["shown_nodes"] == 5


def test_a_small_circuit_is_left_as_it_is():
    graph = make_circuit().example
    assert strongest_part(graph, len(graph.nodes)) is graph
