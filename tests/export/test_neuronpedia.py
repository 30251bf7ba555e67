"""The graph JSON passes a strict schema and what no schema catches; wrong circuits are refused."""

import json
import math
import re

import jsonschema
import pytest
from fixtures.make_circuit import make_circuit
from fixtures.nasty_circuits import every_circuit

from emocircuits.artifacts.circuit import CircuitGraph, Edge, Node
from emocircuits.errors import UserError
from emocircuits.export.neuronpedia import cantor, document, page_query, render

TEXT, NUMBER = {"type": "string"}, {"type": "number"}
NAME = {"type": "string", "pattern": r"^(\./)?[A-Za-z0-9_.-]{2,}$"}
SCHEMA = {
    "type": "object",
    "required": ["metadata", "qParams", "nodes", "links"],
    "properties": {
        "metadata": {
            "type": "object",
            "required": ["slug", "scan", "transcoder_list", "prompt_tokens", "prompt", "schema_version"],
            "properties": {
                "slug": NAME,
                "scan": NAME,
                "prompt": TEXT,
                "schema_version": {"const": 1},
                "node_threshold": {"type": "number", "minimum": 0, "maximum": 1},
                "prompt_tokens": {"type": "array", "items": TEXT, "minItems": 2},
                "transcoder_list": {"type": "array", "items": TEXT},
            },
        },
        "qParams": {
            "type": "object",
            "required": ["pinnedIds", "supernodes", "linkType", "clickedId", "sg_pos"],
            "properties": {
                "pinnedIds": {"type": "array", "items": TEXT, "maxItems": 200},
                "linkType": {"enum": ["input", "output", "either", "both"]},
                "supernodes": {"type": "array", "items": {"type": "array", "items": TEXT, "minItems": 2}},
            },
        },
        "nodes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["node_id", "jsNodeId", "feature", "layer", "ctx_idx", "feature_type", "clerp"],
                "properties": {
                    "feature": {"type": "integer"},
                    "layer": {"type": "string", "pattern": r"^(E|\d+)$"},
                    "ctx_idx": {"type": "integer", "minimum": 0},
                    "clerp": TEXT,
                    "influence": {"type": ["number", "null"]},
                    "activation": {"type": ["number", "null"]},
                    "feature_type": {
                        "enum": ["cross layer transcoder", "embedding", "logit", "mlp reconstruction error"]
                    },
                },
            },
        },
        "links": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["source", "target", "weight"],
                "properties": {"source": TEXT, "target": TEXT, "weight": NUMBER},
            },
        },
    },
}


def rank(node):
    return -1 if node["layer"] == "E" else int(node["layer"])


def check(value):
    jsonschema.validate(value, SCHEMA)
    nodes = {node["node_id"]: node for node in value["nodes"]}
    assert len(nodes) == len(value["nodes"])
    length = len(value["metadata"]["prompt_tokens"])
    for node in value["nodes"]:
        assert node["ctx_idx"] < length
        if node["feature_type"] == "cross layer transcoder":
            layer, feature, position = map(int, node["node_id"].split("_"))
            assert (str(layer), position, cantor(layer, feature)) == (
                node["layer"],
                node["ctx_idx"],
                node["feature"],
            )
        if node["feature_type"] in ("cross layer transcoder", "mlp reconstruction error"):
            assert 0 <= node["influence"] <= 1
        if node["feature_type"] == "logit":
            assert re.fullmatch(r'Output ".*" \(p=\d+\.\d+\)', node["clerp"])
            assert node["is_target_logit"] is True
    for link in value["links"]:
        source, target = nodes[link["source"]], nodes[link["target"]]
        assert math.isfinite(link["weight"])
        assert rank(source) < rank(target)
        assert source["ctx_idx"] <= target["ctx_idx"]
    assert max(rank(node) for node in value["nodes"] if node["feature_type"] != "logit") >= 1
    assert sum(node["feature_type"] == "logit" for node in value["nodes"]) == 1
    for name in [
        *value["qParams"]["pinnedIds"],
        *(name for group in value["qParams"]["supernodes"] for name in group[1:]),
    ]:
        assert name in nodes


@pytest.mark.parametrize("target", ["neuronpedia", "circuit-tracer"])
@every_circuit
def test_it_is_a_good_graph(circuit, target):
    if len((circuit.example or circuit).tokens) < 2:
        pytest.skip("a format for prompts of two tokens and more; refused elsewhere")
    value = document(circuit, target=target)
    check(json.loads(json.dumps(value, allow_nan=False)))
    shown = circuit.example or circuit
    assert len(value["links"]) == len(shown.edges)
    assert sorted(link["weight"] for link in value["links"]) == pytest.approx(
        sorted(edge.weight for edge in shown.edges)
    )
    assert value["metadata"]["scan"].startswith("./") == (target == "circuit-tracer")


def test_the_truth_about_nodes_and_links_is_in_the_file():
    value = json.loads(render(make_circuit()))
    settings = value["metadata"]["generation_settings"]
    assert settings["node_kind"] == "residual SAE feature"
    assert settings["edge_kind"].startswith("attribution patching")
    assert settings["site_of_layer"]["2"] == "blocks.2.hook_resid_post"
    logit = next(node for node in value["nodes"] if node["feature_type"] == "logit")
    assert logit["feature"] == 4096  # one past the vocabulary
    groups = value["qParams"]["supernodes"]
    assert groups[0][0] == "Despair and Shame"  # desperate and miserable; by the clusters of the paper
    labels = {node["node_id"]: node["clerp"] for node in value["nodes"]}
    assert {labels[name] for name in groups[0][1:]} >= {"trapped", "nothing left"}
    assert all(name.count("_") == 2 for group in value["qParams"]["supernodes"] for name in group[1:])
    assert page_query(value).startswith("?slug=blackmail&pinnedIds=")


def feature(layer, position):
    return Node.of(f"feature/blocks.{layer}.hook_resid_post/1/p{position}")


@pytest.mark.parametrize(
    ("nodes", "edges", "tokens", "message"),
    [
        ((feature(0, 0),), (), ("a",), "1 tokens"),
        ((Node.of("target/logit_diff"),), (), ("a", "b"), "no SAE feature"),
        ((Node.of("feature/blocks.0.hook_resid_post/1"),), (), ("a", "b"), "no position"),
        ((Node.of("m0/p0"), feature(1, 1)), (), ("a", "b"), "component"),
        (
            (feature(0, 1), feature(1, 0)),
            (Edge(feature(0, 1).id, feature(1, 0).id, 1.0),),
            ("a", "b"),
            "goes back",
        ),
        (
            (feature(1, 0), feature(0, 1)),
            (Edge(feature(1, 0).id, feature(0, 1).id, 1.0),),
            ("a", "b"),
            "goes back",
        ),
    ],
)
def test_what_the_format_cannot_hold_is_refused(nodes, edges, tokens, message):
    with pytest.raises(UserError, match=message):
        document(CircuitGraph("bad", nodes, edges, tokens=tokens))


def test_two_sites_of_one_layer_do_not_collide():
    nodes = (
        Node.of("feature/blocks.1.hook_resid_pre/1/p0"),
        Node.of("feature/blocks.1.hook_resid_post/1/p0"),
    )
    value = document(CircuitGraph("two", nodes, (Edge(nodes[0].id, nodes[1].id, 1.0),), tokens=("a", "b")))
    check(value)
    assert value["metadata"]["generation_settings"]["site_of_layer"] == {
        "0": "blocks.1.hook_resid_pre",
        "1": "blocks.1.hook_resid_post",
    }
