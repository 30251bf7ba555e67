"""Contract of every export format, and the round trip of those that can be read back."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ET

import networkx as nx
import numpy as np
import pytest
from fixtures.make_circuit import make_circuit
from fixtures.nasty_circuits import HOSTILE, every_circuit, nasty, one_token

from emocircuits.artifacts.circuit import CircuitGraph, Node
from emocircuits.errors import UserError
from emocircuits.export import EXPORTERS, export_all
from emocircuits.export.dot import quote
from emocircuits.sanitise import sanitise_text
from emocircuits.viewer.layout import grid
from emocircuits.viewer.strongest import strongest_part

NEEDS_A_PROMPT = ("neuronpedia", "circuit-tracer")


@pytest.mark.parametrize("name", EXPORTERS.names())
@every_circuit
def test_every_format_writes_every_circuit_the_same_way_twice(name, circuit, tmp_path):
    if name in NEEDS_A_PROMPT and len((circuit.example or circuit).tokens) < 2:
        with pytest.raises(UserError, match="at least 2"):
            EXPORTERS.get(name).write(circuit, tmp_path)
        assert list(tmp_path.iterdir()) == []
        return
    path = EXPORTERS.get(name).write(circuit, tmp_path)
    assert path.name == f"{circuit.behaviour}{EXPORTERS.get(name).suffix}"
    first = path.read_bytes()
    assert first
    if name != "pdf":
        assert first.decode()
    assert EXPORTERS.get(name).data(circuit) == first


def test_the_formats_of_the_contract_are_there(tmp_path):
    done = export_all(make_circuit(), tmp_path)
    ends = (
        "json",
        "graphml",
        "gexf",
        "dot",
        "svg",
        "pdf",
        "html",
        "neuronpedia.json",
        "circuit-tracer.json",
        "nodes.csv",
        "links.csv",
    )
    assert {path.name for path in done.paths} == {f"blackmail.{end}" for end in ends}
    assert done.refused == ()


def test_of_all_formats_those_that_cannot_hold_a_circuit_are_named(tmp_path):
    done = export_all(one_token(), tmp_path)
    assert len(done.paths) == len(EXPORTERS) - 2
    assert [line.split(":")[0] for line in done.refused] == [
        f"no {name} file of one_token" for name in NEEDS_A_PROMPT
    ]
    with pytest.raises(UserError, match="at least 2"):
        export_all(one_token(), tmp_path, ["dot", "neuronpedia"])


@pytest.mark.parametrize(
    ("behaviour", "stem"),
    [
        ("a/b:c", "a-b-c"),
        ("../../etc/passwd", "etc-passwd"),
        ("..", "circuit"),
        ("", "circuit"),
        ("größe", "größe"),
    ],
)
def test_a_behaviour_never_becomes_a_path(behaviour, stem, tmp_path):
    graph = CircuitGraph(behaviour, make_circuit().nodes, ())
    path = EXPORTERS.get("dot").write(graph, tmp_path)
    assert path.parent == tmp_path
    assert path.name.removesuffix(".dot").strip("-.") == stem


def test_an_unknown_format_lists_the_known(tmp_path):
    with pytest.raises(UserError, match="graphml"):
        export_all(make_circuit(), tmp_path, ["graphmll"])


@every_circuit
def test_own_json_comes_back_equal(circuit, tmp_path):
    assert CircuitGraph.load(EXPORTERS.get("json").write(circuit, tmp_path)) == circuit


READERS = {"graphml": nx.read_graphml, "gexf": nx.read_gexf}


@pytest.mark.parametrize("name", READERS)
@every_circuit
def test_xml_formats_come_back_with_the_same_nodes_links_and_weights(name, circuit):
    data = EXPORTERS.get(name).render(circuit)
    ET.fromstring(data)
    back = READERS[name](io.BytesIO(data))
    assert set(back.nodes) == {node.id for node in circuit.nodes}
    weights = {(edge.source, edge.target): edge.weight for edge in circuit.edges}
    assert {(a, b): data["weight"] for a, b, data in back.edges(data=True)} == pytest.approx(weights)
    for node in circuit.nodes:
        if node.effect is not None:
            assert back.nodes[node.id]["effect"] == pytest.approx(node.effect)
        if node.label:
            assert back.nodes[node.id]["label"] == sanitise_text(node.label)
        if node.verified is None:
            assert "verified" not in back.nodes[node.id]


TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"')


def unquote(text):
    return text.replace("\\n", "\n").replace('\\"', '"').replace("\\\\", "\\")


@every_circuit
def test_dot_holds_every_node_and_link_and_only_closed_strings(circuit):
    text = EXPORTERS.get("dot").render(circuit).decode()
    links, nodes = {}, set()
    for line in text.splitlines():
        assert TOKEN.sub("", line).count('"') == 0, line
        found = [unquote(match) for match in TOKEN.findall(line)]
        if " -> " in TOKEN.sub("Q", line):
            links[found[0], found[1]] = float(re.search(r'effect="([^"]+)"', line)[1])
        elif "label=" in TOKEN.sub("Q", line) and found[0] not in ("fontname",):
            nodes.add(found[0])
    assert nodes == {node.id for node in circuit.nodes}
    assert links == {(edge.source, edge.target): edge.weight for edge in circuit.edges}


@pytest.mark.parametrize("text", ["a:b", "end\\", 'a"b', "new\nline", '\\"', "\\n"])
def test_dot_strings_are_closed(text):
    assert TOKEN.fullmatch(quote(text))


def read_table(name, circuit):
    return list(csv.DictReader(io.StringIO(EXPORTERS.get(name).render(circuit).decode(), newline="")))


@every_circuit
def test_tables_come_back_with_the_same_nodes_and_links(circuit):
    rows = read_table("nodes-csv", circuit)
    assert [row["id"] for row in rows] == [node.id for node in circuit.nodes]
    places = grid(circuit).places
    for row, node in zip(rows, circuit.nodes, strict=True):
        for name in ("effect", "ci_low", "ci_high", "verified", "activation", "layer", "feature", "position"):
            value = getattr(node, name)
            assert (row[name] == "") == (value is None), name
            if value is not None:
                assert float(row[name]) == value
        assert row["label"] == sanitise_text(node.label)
        assert (float(row["x"]), float(row["y"])) == places[node.id]
        if node.position is not None and circuit.tokens:
            assert row["token"] == sanitise_text(circuit.tokens[node.position])
    links = [(row["source"], row["target"], float(row["weight"])) for row in read_table("links-csv", circuit)]
    assert links == [(edge.source, edge.target, edge.weight) for edge in circuit.edges]


def test_tables_name_the_match_and_its_cluster():
    row = next(row for row in read_table("nodes-csv", make_circuit()) if row["label"] == "trapped")
    assert (row["emotion"], row["q_value"], row["cluster"]) == ("desperate", "0.004", "Despair and Shame")
    assert (
        next(row for row in read_table("nodes-csv", make_circuit()) if row["label"] == "negation")["emotion"]
        == ""
    )


@every_circuit
def test_html_holds_the_data_once_and_no_markup_of_ours(circuit):
    page = EXPORTERS.get("html").render(circuit).decode()
    assert HOSTILE not in page
    assert "<img" not in page
    assert page.count("</script>") == 2
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    data = json.loads(re.search(r'id="circuit-data">(.*?)</script>', page, re.S)[1])
    shown = data["views"][0]
    assert len(shown["nodes"]["kind"]) == len((circuit.example or circuit).nodes)


def test_svg_is_xml_and_escapes_text():
    data = EXPORTERS.get("svg").render(nasty())
    root = ET.fromstring(data)
    assert root.tag.endswith("svg")
    assert not [element for element in root.iter() if element.tag.endswith("script") or element.tag == "img"]


@pytest.mark.parametrize("name", ["svg", "pdf"])
def test_pictures_hold_forty_nodes_at_the_places_of_the_viewer(name):
    """Circles of the picture, in units of the grid, stand where the viewer puts the same nodes."""
    from emocircuits.figures.circuit_diagram import draw_graph

    graph = CircuitGraph("many", tuple(Node.of(f"m{i}", effect=float(i + 1)) for i in range(60)), ())
    small = strongest_part(graph)
    assert len(small.nodes) == 40
    assert min(node.effect for node in small.nodes) == 21
    figure, places = draw_graph(small), grid(small).places
    centres = [
        patch.get_window_extent().get_points().mean(0)
        for patch in figure.axes[0].patches[-len(small.nodes) :]
    ]
    drawn = np.array(centres) - centres[0]
    expected = np.array([places[node.id] for node in small.nodes])
    expected -= expected[0]
    for axis in (0, 1):
        spread = np.abs(expected[:, axis]) > 0
        assert (
            np.ptp(drawn[spread, axis] / expected[spread, axis]) < 1e-6 * abs(drawn[spread, axis]).max()
            if spread.any()
            else True
        )
    assert EXPORTERS.get(name).render(graph).startswith(b"<?xml" if name == "svg" else b"%PDF")
