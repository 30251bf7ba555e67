"""Circuits check themselves when built, and writing then reading is equality."""

import json

import networkx as nx
import numpy as np
import pytest

from emocircuits.artifacts.circuit import CircuitGraph, Edge, Node
from emocircuits.errors import UserError
from emocircuits.provenance import Provenance

A, B, T = "feature/blocks.0.hook_resid_post/3", "feature/blocks.1.hook_resid_post/7", "target/logit_diff"


def circuit(**changes):
    values = dict(
        behaviour="blackmail",
        nodes=(
            Node.of(A, label="desperate", effect=np.float32(0.5), activation=np.float64(2)),
            Node.of(
                B,
                effect=-1,
                ci_low=-1.5,
                ci_high=-0.5,
                verified=-0.9,
                details={
                    "emotions": [{"emotion": "calm", "q_value": np.float32(0.25)}],
                    "peak_position": np.int64(3),
                },
            ),
            Node.of(T),
        ),
        edges=(Edge(A, B, np.float32(0.25)), Edge(B, T, -1.0, verified=-0.9)),
        scores={"faithfulness": np.float64(0.8)},
        provenance=Provenance("test", 1, {"a": "b"}, {"c": 2}),
    )
    return CircuitGraph(**{**values, **changes})


def test_write_then_read_is_equality(tmp_path):
    example = CircuitGraph(
        "blackmail",
        (Node.of(A + "/p0", effect=1.0), Node.of("token/p1", label="é\ud800")),
        (),
        tokens=("a", "\x1b:"),
    )
    graph = circuit(example=example)
    graph.save(tmp_path / "circuit.json")
    assert CircuitGraph.load(tmp_path / "circuit.json") == graph
    assert CircuitGraph.load(tmp_path / "circuit.json").content_hash == graph.content_hash
    document = json.loads((tmp_path / "circuit.json").read_text())
    assert (document["schema"], document["schema_version"]) == ("emocircuits.circuit", 1)
    assert document["nodes"][0] == {"id": A, "label": "desperate", "effect": 0.5, "activation": 2.0}


def test_networkx_has_the_same_nodes_links_and_weights():
    graph = circuit().to_networkx()
    assert isinstance(graph, nx.DiGraph)
    assert set(graph) == {A, B, T}
    assert graph.edges[A, B]["weight"] == 0.25
    assert graph.nodes[A]["layer"] == 0
    assert "verified" not in graph.nodes[A]
    assert all(
        type(value) in (str, int, float, dict)
        for _, data in graph.nodes(data=True)
        for value in data.values()
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes": (Node.of(A), Node.of(A)), "edges": ()}, "twice"),
        ({"edges": (Edge(A, B, 1.0), Edge(A, B, 2.0))}, "twice"),
        ({"edges": (Edge(A, "target/other", 1.0),)}, "unknown node"),
        ({"edges": (Edge(A, A, 1.0),)}, "itself"),
        ({"nodes": (Node.of("token/p2"),), "edges": (), "tokens": ("a", "b")}, "outside the prompt"),
        ({"scores": {"faithfulness": float("nan")}}, "finite"),
        ({"scores": {"faithfulness": object()}}, "object"),
    ],
)
def test_a_broken_circuit_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        circuit(**changes)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Node.of(A, effect=float("nan")),
        lambda: Node.of(A, verified=float("inf")),
        lambda: Edge(A, B, float("nan")),
        lambda: Node(A, "error"),
        lambda: Node(A, "feature", layer=5, site="blocks.0.hook_resid_post", feature=3),
        lambda: Node.of("nothing"),
    ],
)
def test_broken_nodes_and_links_are_refused(make):
    with pytest.raises(UserError):
        make()


def test_a_foreign_document_is_refused(tmp_path):
    circuit().save(tmp_path / "circuit.json")
    document = json.loads((tmp_path / "circuit.json").read_text())
    for change, message in (
        ({"schema": "other"}, "schema"),
        ({"schema_version": 99}, "version"),
        ({"nodes": [{}]}, "not whole"),
        ({"edges": [{"surce": 1}]}, "not whole"),
    ):
        (tmp_path / "bad.json").write_text(json.dumps({**document, **change}))
        with pytest.raises(UserError, match=message):
            CircuitGraph.load(tmp_path / "bad.json")
