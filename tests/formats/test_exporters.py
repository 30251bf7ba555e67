"""Contract of every export format, and the round trip of those that can be read back."""

import io
import json
import re
import xml.etree.ElementTree as ET

import networkx as nx
import pytest
from fixtures.make_circuit import make_circuit
from fixtures.nasty_circuits import HOSTILE, every_circuit, nasty

from emocircuits.artifacts.circuit_graph import CircuitGraph
from emocircuits.errors import UserError
from emocircuits.export import EXPORTERS, export_all, viewer_data
from emocircuits.export.dot import quote
from emocircuits.export.plain import plain_text


@pytest.mark.parametrize("name", EXPORTERS.names())
@every_circuit
def test_every_format_writes_every_circuit_the_same_way_twice(name, circuit, tmp_path):
    path = EXPORTERS.get(name).write(circuit, tmp_path)
    assert path.name == f"{circuit.behaviour}{EXPORTERS.get(name).suffix}"
    first = path.read_bytes()
    assert first
    assert first.decode()
    assert EXPORTERS.get(name).render(circuit) == first


def test_the_formats_of_the_contract_are_there(tmp_path):
    names = {path.name for path in export_all(make_circuit(), tmp_path)}
    assert names == {f"blackmail.{end}" for end in ("json", "graphml", "gexf", "dot", "svg", "html", "neuronpedia.json")}


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
            assert back.nodes[node.id]["label"] == plain_text(node.label)
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


@every_circuit
def test_html_holds_the_data_once_and_no_markup_of_ours(circuit):
    page = EXPORTERS.get("html").render(circuit).decode()
    assert HOSTILE not in page
    assert "<img" not in page
    assert page.count("</script>") == 2
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    data = json.loads(re.search(r'id="circuit-data">(.*?)</script>', page, re.S)[1])
    shown = data["views"][0]
    assert len(shown["nodes"]) == len((circuit.example or circuit).nodes)


def test_svg_is_xml_and_escapes_text():
    data = EXPORTERS.get("svg").render(nasty())
    root = ET.fromstring(data)
    assert root.tag.endswith("svg")
    assert not [element for element in root.iter() if element.tag.endswith("script") or element.tag == "img"]


def test_a_page_beyond_the_budget_is_refused(monkeypatch):
    monkeypatch.setattr(viewer_data, "MAX_LINKS", 10)
    with pytest.raises(UserError, match="links.*at most 20000 nodes and 10 links"):
        viewer_data.viewer_data(make_circuit())
