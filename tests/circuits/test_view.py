"""Looking at a circuit: names of emotions, and the page."""

from pathlib import Path

import pytest

import emocircuits as emo


@pytest.fixture(scope="module")
def run(debug_run):
    return emo.Run.open(debug_run)


@pytest.fixture(scope="module")
def bare(run):
    """The run's circuit without cards."""
    nodes = tuple(emo.Node.of(node.id, effect=node.effect) for node in run.circuit("reward_hacking").nodes)
    return emo.CircuitGraph("reward_hacking", nodes, run.circuit("reward_hacking").edges)


def test_features_take_the_name_of_the_emotion_that_they_match(run, bare, tmp_path):
    seen = emo.view(bare, run.matches, path=tmp_path / "c.html")
    assert [node.id for node in seen.nodes] == [node.id for node in bare.nodes] and seen.edges == bare.edges
    described = {node.id: node for node in run.circuit("reward_hacking").nodes}
    named = 0
    for node in seen.nodes:
        if node.kind != "feature":
            assert node.details == {}
            continue
        assert node.details["emotions"] == described[node.id].details["emotions"]
        matched = [line for line in node.details["emotions"] if (line["q_value"] or 1) <= 0.05]
        if matched:
            assert node.label == described[node.id].label and node.label.startswith(matched[0]["emotion"])
            named += 1
    assert named


def test_what_a_circuit_says_of_itself_stays(run, tmp_path):
    circuit = run.circuit("reward_hacking")
    assert emo.view(circuit, run.matches, path=tmp_path / "c.html") == circuit


def test_the_page_lies_where_it_is_asked_for(run, bare, tmp_path, capsys):
    emo.view(bare, path=tmp_path / "c.html")
    assert str(tmp_path / "c.html") in capsys.readouterr().err
    plain = (tmp_path / "c.html").read_text(encoding="utf-8")
    emo.view(bare, path=tmp_path / "e.html", evidence=run.evidence("reward_hacking"))
    assert plain.startswith("<!doctype html>") and "Circuit of reward_hacking" in plain
    assert len((tmp_path / "e.html").read_text(encoding="utf-8")) > len(plain)


def test_without_a_path_a_script_gets_a_temporary_page_and_a_notebook_none(bare, capsys, monkeypatch):
    emo.view(bare)
    said = capsys.readouterr().err
    page = Path(said.split("the circuit as a page: ")[1].strip())
    assert page.name == "circuit_reward_hacking.html" and page.is_file()
    page.unlink()
    page.parent.rmdir()
    monkeypatch.setattr("builtins.__IPYTHON__", True, raising=False)
    assert emo.view(bare) is bare and capsys.readouterr().err == ""
