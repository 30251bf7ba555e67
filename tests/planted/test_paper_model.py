"""Node effects, edges and faithfulness worked out on paper (numbers of `paper_model`'s docstring).

Site 0   s: 3 * 6.5 = 19.5        k: -1 * -6.5 = 6.5                       together 26 = M(clean) - M(corrupt)
Site 1   p: 8 * 3 = 24            s: 3 / 2 = 1.5        error (k): 0.5     together 26
Site 2   a: 24 * 1 = 24           s: 1.5                k: 0.5             together 26
Edges    s0 -> p1: 3 * 2 * 3 = 18   k0 -> p1: 6   s0 -> s1: 1.5   k0 -> error1: 0.5   p1 -> a2: 24
         s1 -> s2: 1.5   error1 -> k2: 0.5   and at the last site each node's effect to the metric.
"""

import numpy as np
import pytest
from planted.paper_model import SITES, A, K, P, S, paper_batch, paper_metric, paper_model, paper_saes
from planted.tasks import feature_edges, strong_circuit, task_of

from emocircuits.attribution.attribute import attribute
from emocircuits.circuits.choose import with_edges
from emocircuits.circuits.faithfulness import circuit_metric
from emocircuits.circuits.from_attribution import circuit_of_nodes
from emocircuits.circuits.quality import QualitySettings, circuit_quality
from emocircuits.circuits.unroll import unroll
from emocircuits.errors import UserError
from emocircuits.passes.prompt_pairs import PromptPairs


def feature(layer: int, axis: int) -> str:
    return f"feature/{SITES[layer]}/{axis}"


ERROR = f"error/{SITES[1]}"
EFFECTS = {
    feature(0, S): 19.5,
    feature(0, K): 6.5,
    feature(1, P): 24.0,
    feature(1, S): 1.5,
    ERROR: 0.5,
    feature(2, A): 24.0,
    feature(2, S): 1.5,
    feature(2, K): 0.5,
}
TARGET = "logits"
EDGES = {
    (feature(0, S), feature(1, P)): 18.0,
    (feature(0, K), feature(1, P)): 6.0,
    (feature(0, S), feature(1, S)): 1.5,
    (feature(0, K), ERROR): 0.5,
    (feature(1, P), feature(2, A)): 24.0,
    (feature(1, S), feature(2, S)): 1.5,
    (ERROR, feature(2, K)): 0.5,
    (feature(2, A), TARGET): 24.0,
    (feature(2, S), TARGET): 1.5,
    (feature(2, K), TARGET): 0.5,
}


@pytest.fixture(scope="module")
def world():
    return task_of(paper_model(), paper_batch(), paper_metric, paper_saes(), behaviour="paper")


def test_node_effects_equal_the_paper_and_the_real_patches(world):
    result = attribute(world, edges=False)
    assert result.metric_clean == pytest.approx(28.5, abs=1e-12)
    assert result.metric_corrupt == pytest.approx(2.5, abs=1e-12)
    found = dict(zip(result.nodes, result.effects[0], strict=True))
    assert found == pytest.approx(EFFECTS, abs=1e-12)
    assert result.passes == 3
    exact = attribute(world, method="exact", edges=False)
    assert dict(zip(exact.nodes, exact.effects[0], strict=True)) == pytest.approx(EFFECTS, abs=1e-12)


def test_edges_equal_the_paper(world):
    nodes = list(EFFECTS)
    edges = feature_edges(world, nodes)
    names = [*nodes, TARGET]
    source = np.repeat(np.arange(len(nodes)), np.diff(edges.indptr))
    found = {
        (names[s], names[t]): w
        for s, t, w in zip(source, edges.targets, edges.effects[0], strict=True)
        if abs(w) > 1e-12
    }
    assert found == pytest.approx(EDGES, abs=1e-12)


def test_circuit_holds_the_planted_nodes_and_edges(world):
    result, circuit = strong_circuit(world, 0.05, 0.05)
    assert {node.id for node in circuit.nodes} == {
        feature(0, S),
        feature(0, K),
        feature(1, P),
        feature(1, S),
        feature(2, A),
        feature(2, S),
        TARGET,
    }
    assert all(node.verified == pytest.approx(node.effect, abs=1e-12) for node in circuit.nodes)
    assert {(edge.source, edge.target): edge.weight for edge in circuit.edges} == pytest.approx(
        {pair: weight for pair, weight in EDGES.items() if weight >= 1.5}, abs=1e-12
    )
    again = circuit_of_nodes(with_edges(result, world, list(EFFECTS)), list(EFFECTS), edge_threshold=0.0)
    assert len(again.edges) == len(EDGES)


@pytest.mark.parametrize(
    ("nodes", "value"),
    [
        ((), 2.5),  # nothing: the corrupt run
        (tuple(EFFECTS), 28.5),  # all that differ: the clean run
        (
            (feature(0, S), feature(1, P), feature(2, A)),
            20.5,
        ),  # s = 3, k = 1: p = 8, a = 21, then s = 0, k = 1
        ((feature(1, P), feature(2, A)), 2.5),  # the plan sees corrupt states
        (
            (feature(0, S), feature(0, K), feature(1, P), feature(2, A)),
            26.5,
        ),  # p = 10, a = 27, then s = 0, k = 1
        ((feature(0, S), feature(1, S), feature(2, S)), 4.0),  # the direct path: a = 3, s = 3, k = 1
        # the calm state through the error node: a = 3, s = 0, k = 0
        ((feature(0, K), ERROR, feature(2, K)), 3.0),
    ],
)
def test_metric_of_a_circuit_equals_the_paper(world, nodes, value):
    measured = circuit_metric(world, [nodes])
    assert measured[0, 0] == pytest.approx(value, abs=1e-12)


def test_faithfulness_and_completeness_equal_the_paper(world):
    """{s0, p1, a2}: F = (20.5 - 2.5) / 26; its complement keeps k live everywhere, and M = 3, F =
    0.5 / 26.
    """
    result = attribute(world, edges=False)
    other = paper_batch()
    other.clean[0, 1] = 3  # another word without meaning: same states, a different prompt
    held_out = world.on(PromptPairs((other,)))
    circuit = (feature(0, S), feature(1, P), feature(2, A))
    found = circuit_quality(circuit, result, held_out, world, QualitySettings(sizes=(2, 3)))
    assert found.faithfulness == pytest.approx(18 / 26, abs=1e-12)
    assert found.completeness == pytest.approx(0.5 / 26, abs=1e-12)
    # site by site: s0, p1, a2, then k0 (the plan), s1, s2 (worth 1.5), the error that holds k, k2 (worth 0.5)
    assert [point["size"] for point in found.curve] == [1, 2, 3, 4, 5, 6, 8]
    assert [26 * point["faithfulness"] for point in found.curve] == pytest.approx(
        [0, 0, 18, 24, 24, 25.5, 26], abs=1e-10
    )
    # every axis is a feature and a coordinate of the stream, so both find the same three
    assert found.controls["neuron_basis"]["faithfulness"] == pytest.approx(18 / 26, abs=1e-12)
    assert found.controls["random_dictionary"]["faithfulness"] < 0.5
    with pytest.raises(UserError, match="also used to find"):
        circuit_quality(circuit, result, world, world)


def test_unrolled_circuit_starts_at_the_tokens(world):
    """Each desperate word adds 1 to s, which is worth 6.5; the calm word's place adds 6.5 for taking k away.

    Position 2 holds a desperate word on the clean and the calm word on the corrupt side: 13.
    """
    _, circuit = strong_circuit(world, 0.01)
    example = unroll(circuit, world, paper_batch(), ["d", "n", "d", "n", "d", "end"])
    effects = {node.id: node.effect for node in example.nodes}
    assert {name: effects[name] for name in effects if name.startswith("token")} == pytest.approx(
        {"token/p0": 6.5, "token/p2": 13.0, "token/p4": 6.5}, abs=1e-12
    )
    assert {
        name: value for name, value in effects.items() if name.startswith(("feature", "error"))
    } == pytest.approx({f"{name}/p5": value for name, value in EFFECTS.items()}, abs=1e-12)
    weights = {(edge.source, edge.target): edge.weight for edge in example.edges}
    assert weights["token/p2", feature(0, S) + "/p5"] == pytest.approx(6.5)
    assert weights["token/p2", feature(0, K) + "/p5"] == pytest.approx(6.5)
    assert weights[feature(0, S) + "/p5", feature(1, P) + "/p5"] == pytest.approx(18.0)
    assert example.node(feature(1, P) + "/p5").activation == pytest.approx(10.0)
