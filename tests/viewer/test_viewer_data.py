"""What the page is given: every number of the circuit, texts once, and nothing for what was not measured."""

import json
import re
from dataclasses import replace

import pytest
from fixtures.make_circuit import make_circuit
from fixtures.make_evidence import make_evidence
from fixtures.nasty_circuits import every_circuit

from emocircuits.artifacts.evidence import CircuitEvidence, PathShare
from emocircuits.artifacts.feature_page import feature_page
from emocircuits.names import parse_node
from emocircuits.viewer import data as module
from emocircuits.viewer.data import KINDS, viewer_data
from emocircuits.viewer.page import viewer_module


@every_circuit
def test_every_node_and_link_is_there(circuit):
    data = json.loads(json.dumps(viewer_data(circuit), allow_nan=False))
    for view, graph in zip(
        data["views"], [one for one in (circuit.example, circuit) if one is not None], strict=True
    ):
        nodes, links = view["nodes"], view["links"]
        assert len(nodes["kind"]) == len(graph.nodes)
        for i, node in enumerate(graph.nodes):
            parts = parse_node(node.id)
            assert KINDS[nodes["kind"][i]] == node.kind
            assert (parts.site is None and nodes.get("site", [-1] * (i + 1))[i] == -1) or data["sites"][
                nodes["site"][i]
            ]["name"] == parts.site
            for name, key in (
                ("effect", "effect"),
                ("ci_low", "low"),
                ("ci_high", "high"),
                ("verified", "verified"),
                ("activation", "activation"),
            ):
                found = nodes[key][i] if key in nodes else None
                assert found == (
                    None if getattr(node, name) is None else pytest.approx(getattr(node, name), rel=1e-3)
                )
        index = [node.id for node in graph.nodes]
        found = {
            (index[a], index[b]): w
            for a, b, w in zip(links["source"], links["target"], links["weight"], strict=True)
        }
        assert found == pytest.approx(
            {(edge.source, edge.target): edge.weight for edge in graph.edges}, rel=1e-3
        )
        strengths = [abs(weight) for weight in links["weight"]]
        assert strengths == sorted(strengths, reverse=True)
    assert len(set(data["strings"])) == len(data["strings"])


def test_what_nobody_measured_is_absent():
    data = viewer_data(make_circuit())
    assert "dose" not in data
    assert not {"controls", "corrupt", "dropped"} & set(data["views"][0])


def test_evidence_goes_to_the_views_it_belongs_to():
    circuit = make_circuit()
    evidence = make_evidence(circuit)
    data = viewer_data(circuit, evidence)
    example, whole = data["views"]
    assert [control["name"] for control in example["controls"]] == ["calm", "random", "content"]
    assert example["controls"][0]["effect"] == pytest.approx(
        [
            None if node.effect is None else pytest.approx(-0.5 * node.effect, rel=1e-3)
            for node in circuit.example.nodes
        ]
    )
    weights = sorted(circuit.edges, key=lambda edge: -abs(edge.weight))
    assert whole["controls"][0]["weight"] == pytest.approx([-0.5 * edge.weight for edge in weights], rel=1e-3)
    assert example["corrupt"]["tokens"] == list(evidence.corrupt.tokens)
    assert "corrupt" not in whole
    assert data["dose"]["curves"][0]["rate"] == (0.12, 0.16, 0.2, 0.3, 0.42)
    assert (data["emotion"], data["model"]) == ("desperate", "organism")


def test_measured_paths_take_the_place_of_the_viewers_own():
    circuit = make_circuit()
    source = next(node.id for node in circuit.example.nodes if node.label == "trapped")
    path = PathShare((source, "target/logit_diff"), 0.61, "desperate", effect=-0.2)
    shown = viewer_data(
        circuit, CircuitEvidence("desperate", paths=(path,), measure="of the steering effect")
    )["views"][0]["paths"]
    mine = next(item for item in shown if item["from"] == "desperate")
    index = [node.id for node in circuit.example.nodes]
    assert mine["list"] == [[0.61, -1, index.index(source), index.index("target/logit_diff")]]
    assert mine["measure"] == "of the steering effect"
    assert shown[0]["from"] == "" and shown[1]["from"] == "desperate"


def test_beyond_the_budget_the_strongest_part_is_kept(monkeypatch):
    circuit = make_circuit()
    monkeypatch.setattr(module, "PAGE_LINKS", 5)
    monkeypatch.setattr(module, "PAGE_NODES", 12)
    view = viewer_data(circuit)["views"][0]
    assert view["dropped"]["nodes"] == [12, len(circuit.example.nodes)]
    assert view["dropped"]["links"] == [5, len(circuit.example.edges)]
    kinds = [KINDS[kind] for kind in view["nodes"]["kind"]]
    assert kinds.count("token") == 6 and kinds.count("target") == 1
    into = sum(abs(edge.weight) for edge in circuit.example.edges if edge.target == "target/logit_diff")
    assert view["dropped"]["in_total"][kinds.index("target")] == pytest.approx(into, rel=1e-3)


def test_the_viewers_parts_share_one_scope():
    """The modules are joined in one file: no two may declare the same name at their top."""
    names = re.findall(
        r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+)", viewer_module(), flags=re.M
    )
    assert len(names) > 100
    assert [name for name in dict.fromkeys(names) if names.count(name) > 1] == []


HOSTILE = (
    "javascript:alert(1)",
    "https://www.neuronpedia.org.evil.example/a/b/1",
    "http://www.neuronpedia.org/a/b/1",
    "https://www.neuronpedia.org/a/../../b/1",
    "https://www.neuronpedia.org/a/b/1\n",
    "https://www.neuronpedia.org/a/b/1?x=<b>",
    'https://www.neuronpedia.org/a/b/1" onclick="x',
    "//evil.example/a/b/1",
    7,
    None,
    ["https://www.neuronpedia.org/a/b/1"],
)


def test_only_a_page_of_neuronpedia_stays_an_address():
    circuit = replace(make_circuit(), example=None)
    place = next(i for i, node in enumerate(circuit.nodes) if node.kind == "feature")

    def shown(address):
        node = replace(circuit.nodes[place], details={**circuit.nodes[place].details, "neuronpedia": address})
        return viewer_data(
            replace(circuit, nodes=(*circuit.nodes[:place], node, *circuit.nodes[place + 1 :]))
        )["details"][node.id]["neuronpedia"]

    assert (
        shown(feature_page("gemma-2-2b/12-gemmascope-res-16k", 7))
        == "https://www.neuronpedia.org/gemma-2-2b/12-gemmascope-res-16k/7"
    )
    assert [shown(address) for address in HOSTILE] == [""] * len(HOSTILE)


@pytest.mark.parametrize(
    "name",
    [
        "",
        None,
        3,
        "gemma",
        "a/b/c",
        "../b",
        "a/..",
        "a/b?c",
        "a/b#c",
        "a b/c",
        "a/b\n",
        "a/<b>",
        "/a/b",
        "a//b",
    ],
)
def test_an_id_of_another_form_gives_no_page(name):
    assert feature_page(name, 7) == ""
