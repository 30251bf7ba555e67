"""Paths of a circuit: shares worked by hand, the k best against networkx and against enumeration, signs
against a linear model.
"""

import itertools
import math

import networkx as nx
import numpy as np
import pytest
from fixtures.make_circuit import make_circuit

from emocircuits.artifacts.circuit import CircuitGraph, Edge, Node
from emocircuits.errors import UserError
from emocircuits.viewer.influence import influence
from emocircuits.viewer.path_shares import emotions_of, fractions, largest_shares, reach, starting_points

T = "target/logit_diff"
A, B, C = (f"feature/blocks.{i}.hook_resid_post/0" for i in range(3))


def hand():
    """Into T: B 3/4, C 1/4. Into B: A. Into C: A 1/2, B 1/2."""
    edges = (Edge(B, T, -3.0), Edge(C, T, 1.0), Edge(A, B, 2.0), Edge(A, C, 1.0), Edge(B, C, 1.0))
    return CircuitGraph("b", tuple(map(Node.of, (A, B, C, T))), edges)


def random_circuit(seed, layers=4, width=4):
    random = np.random.default_rng(seed)
    nodes = [
        Node.of(f"feature/blocks.{layer}.hook_resid_post/{i}", effect=1.0)
        for layer in range(layers)
        for i in range(width)
    ]
    nodes.append(Node.of(T))
    edges = [Edge(a.id, b.id, float(random.normal())) for a, b in itertools.combinations(nodes, 2)
             if (b.layer is None or a.layer < b.layer) and random.random() < 0.6]  # fmt: skip
    return CircuitGraph("random", tuple(nodes), tuple(edges))


def test_shares_worked_by_hand():
    found = largest_shares(fractions(hand()), [A], T)
    assert {path.nodes: path.share for path in found} == pytest.approx(
        {(A, B, T): 0.75, (A, C, T): 0.125, (A, B, C, T): 0.125}
    )
    assert [path.share for path in found] == sorted((path.share for path in found), reverse=True)


def test_what_passes_through_is_counted_once():
    links = fractions(hand())
    assert reach(links, [B], T) == pytest.approx(0.75 + 0.25 * 0.5)
    assert reach(links, [B, C], T) == pytest.approx(1.0)  # not 0.875 + 0.25
    assert reach(links, [A], T) == pytest.approx(1.0)
    assert reach(links, [], T) == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_all_paths_of_a_node_add_up_to_its_influence(seed):
    graph = random_circuit(seed)
    links, through = fractions(graph), influence(graph)
    for node in graph.nodes[:-1]:
        assert sum(path.share for path in largest_shares(links, [node.id], T, k=10**6)) == pytest.approx(
            through[node.id], abs=1e-12
        )
        assert reach(links, [node.id], T) == pytest.approx(through[node.id], abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_best_are_those_of_networkx(seed):
    graph = random_circuit(seed)
    links = fractions(graph)
    for *_, data in links.edges(data=True):
        data["length"] = -math.log(data["fraction"])
    source = graph.nodes[0].id
    expected = list(itertools.islice(nx.shortest_simple_paths(links, source, T, weight="length"), 5))
    assert [list(path.nodes) for path in largest_shares(links, [source], T, k=5)] == expected


def test_the_sign_is_that_of_the_effect_on_the_metric():
    """y = 2 d + 3 e with d = -u, e = v - u: u lowers y through d and through e, v raises it through e."""
    u, v = A, "feature/blocks.0.hook_resid_post/1"
    d, e = B, "feature/blocks.1.hook_resid_post/1"
    change = {u: 1.0, v: 1.0, d: -1.0, e: 0.5}  # of the nodes' values from corrupt to clean
    inside, outside = {(u, d): -1.0, (u, e): -1.0, (v, e): 1.0}, {d: 2.0, e: 3.0}
    edges = [Edge(a, b, change[a] * slope * outside[b]) for (a, b), slope in inside.items()]
    edges += [Edge(a, T, change[a] * slope) for a, slope in outside.items()]
    effects = {a: sum(edge.weight for edge in edges if edge.source == a) for a in (u, v, d, e)}
    graph = CircuitGraph(
        "linear", tuple(Node.of(a, effect=effects[a]) for a in (u, v, d, e)) + (Node.of(T),), tuple(edges)
    )
    found = {path.nodes: path.sign for path in largest_shares(fractions(graph), [u, v], T, effects=effects)}
    assert found == {(u, d, T): -1, (u, e, T): -1, (v, e, T): 1}
    assert [path.sign for path in largest_shares(fractions(graph), [d], T, effects=effects)] == [-1]


def test_starting_points_are_words_and_significant_emotions():
    graph = make_circuit()
    starts = starting_points(graph.example)
    assert [graph.example.node(name).kind for name in starts[""]] == ["token"] * 6
    assert {graph.example.node(name).label for name in starts["desperate"]} == {
        "closing in",
        "no way out",
        "trapped",
        "act under threat",
    }
    assert "afraid" not in starts  # q = 0.21
    fed = {edge.target for edge in graph.edges}
    assert set(starting_points(graph)[""]) == {
        node.id for node in graph.nodes if node.id not in fed and node.kind != "target"
    }


def test_the_surest_match_comes_first_and_an_untested_one_is_none():
    matches = [
        {"emotion": "a", "q_value": 0.03},
        {"emotion": "b", "q_value": None},
        {"emotion": "c", "q_value": 0.001},
    ]
    assert emotions_of(Node.of(A, details={"emotions": matches})) == ["c", "a"]
    assert emotions_of(Node.of(A)) == []


def test_links_of_weight_zero_and_unreachable_targets_make_no_path():
    graph = CircuitGraph("b", (Node.of(A), Node.of(B), Node.of(T)), (Edge(A, T, 0.0),))
    assert largest_shares(fractions(graph), [A, B], T) == []
    with pytest.raises(UserError, match="cycle"):
        fractions(
            CircuitGraph("b", (Node.of("m0"), Node.of("m1")), (Edge("m0", "m1", 1.0), Edge("m1", "m0", 1.0)))
        )
