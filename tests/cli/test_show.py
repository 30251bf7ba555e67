"""`export`, `view`, `report` and `figures`: files and pages of a run, and one line for every mistake."""

import json
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import webbrowser

import pytest
from fixtures.make_circuit import make_circuit
from fixtures.make_run import make_run
from fixtures.nasty_circuits import nasty, one_token
from fixtures.waits import finished, wait_for

from emocircuits.artifacts.evidence import CircuitEvidence, PathShare
from emocircuits.artifacts.run_evidence import run_circuits
from emocircuits.cli.main import main
from emocircuits.studies.serve_pages import page_server


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


def fails(capsys, code, *arguments):
    assert main([str(part) for part in arguments]) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("emocircuits: "), lines
    return lines[0]


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_named_formats_are_written_and_listed(capsys, tmp_path, run):
    assert (
        main(
            [
                "export",
                str(run),
                "--formats",
                "csv,dot,pdf",
                "--behaviour",
                "blackmail",
                "--out",
                str(tmp_path),
            ]
        )
        == 0
    )
    expected = ["blackmail.dot", "blackmail.links.csv", "blackmail.nodes.csv", "blackmail.pdf"]
    assert names(tmp_path) == expected
    assert sorted(capsys.readouterr().out.split()) == [str(tmp_path / name) for name in expected]


def test_the_address_with_supernodes_is_printed(capsys, tmp_path, run):
    assert (
        main(
            [
                "export",
                str(run),
                "--formats",
                "neuronpedia",
                "--behaviour",
                "blackmail",
                "--out",
                str(tmp_path),
                "--json",
            ]
        )
        == 0
    )
    (found,) = json.loads(capsys.readouterr().out)
    assert found["files"] == [str(tmp_path / "blackmail.neuronpedia.json")]
    groups = json.loads((tmp_path / "blackmail.neuronpedia.json").read_text())["qParams"]["supernodes"]
    query = dict(part.split("=") for part in found["addresses"][0].removeprefix("?").split("&"))
    assert json.loads(urllib.request.unquote(query["supernodes"])) == groups != []
    assert (
        main(
            [
                "export",
                str(run),
                "--formats",
                "neuronpedia",
                "--behaviour",
                "blackmail",
                "--out",
                str(tmp_path),
            ]
        )
        == 0
    )
    assert "?slug=blackmail&pinnedIds=" in capsys.readouterr().out


def test_a_circuit_file_stands_for_a_run(capsys, tmp_path):
    make_circuit().save(tmp_path / "mine.json")
    assert main(["export", str(tmp_path / "mine.json"), "--formats", "graphml"]) == 0
    assert main(["view", str(tmp_path / "mine.json"), "--no-open"]) == 0
    assert names(tmp_path) == ["blackmail.graphml", "blackmail.html", "mine.json"]


def test_all_formats_skip_what_cannot_be_and_say_so(capsys, tmp_path):
    one_token().save(tmp_path / "small.json")
    assert (
        main(["export", str(tmp_path / "small.json"), "--formats", "all", "--out", str(tmp_path / "out")])
        == 0
    )
    printed = capsys.readouterr()
    assert "one_token.html" in printed.out
    assert [line.split(":")[1].strip() for line in printed.err.splitlines()] == [
        f"no {name} file of one_token" for name in ("neuronpedia", "circuit-tracer")
    ]
    assert not (tmp_path / "out/one_token.neuronpedia.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--formats", "gexff"), "did you mean 'gexf'"),
        (("--formats", "dot", "--behaviour", "blackmale"), "did you mean 'blackmail'"),
    ],
)
def test_mistakes_in_names(capsys, tmp_path, run, arguments, message):
    assert message in fails(capsys, 2, "export", run, *arguments, "--out", tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "command", [("view", "--no-open"), ("view", "--serve", "--no-open"), ("export", "--formats", "dot")]
)
def test_a_directory_without_circuits(capsys, tmp_path, command):
    verb, *options = command
    assert "does not exist" in fails(capsys, 2, verb, tmp_path / "nowhere", *options)
    assert "holds no circuit" in fails(capsys, 2, verb, tmp_path, *options)


def test_stages_of_these_names_need_a_run(capsys, tmp_path):
    for name in ("export", "figures", "report"):
        assert "holds no run" in fails(capsys, 2, "stage", name, tmp_path)


def test_the_report_is_written_again_and_opened(capsys, tmp_path, debug_run, monkeypatch):
    copy, opened = shutil.copytree(debug_run, tmp_path / "run"), []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    (copy / "report.html").unlink()
    assert main(["report", str(copy)]) == 0
    assert capsys.readouterr().out == f"{copy / 'report.html'}\n"
    assert opened == [(copy / "report.html").resolve().as_uri()]
    parts = [
        re.findall('<section class="part" id="(.*?)"', (run / "report.html").read_text())
        for run in (copy, debug_run)
    ]
    assert parts[0] == parts[1] and len(parts[0]) > 5
    assert "holds no finished run" in fails(capsys, 2, "report", tmp_path)


def test_a_circuit_of_another_schema_version(capsys, tmp_path, run):
    copy = shutil.copytree(run, tmp_path / "run")
    path = copy / "circuit_blackmail.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "schema_version": 99}))
    assert "circuit_blackmail.json has version 99" in fails(capsys, 2, "view", copy, "--no-open")
    path.write_text(json.dumps({**value, "schema": "other"}))
    assert "schema 'other'; expected 'emocircuits.circuit'" in fails(
        capsys, 2, "export", copy, "--formats", "dot"
    )
    path.write_text("{")
    assert "is not JSON" in fails(capsys, 2, "view", copy, "--no-open")
    path.write_text(json.dumps({**value, "nodes": [{"id": "x:y"}]}))
    assert "'x:y' is not a node id" in fails(capsys, 2, "view", copy, "--no-open")


def test_view_writes_pages_and_opens_the_first(capsys, tmp_path, run, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    assert main(["view", str(run), "--out", str(tmp_path)]) == 0
    behaviours = list(run_circuits(run))
    assert names(tmp_path) == sorted(f"{name}.html" for name in behaviours)
    assert opened == [(tmp_path / f"{behaviours[0]}.html").resolve().as_uri()]
    page = (tmp_path / f"{behaviours[0]}.html").read_text()
    assert '"dose":' in page  # the run's steering is in it
    before = (tmp_path / f"{behaviours[0]}.html").stat().st_mtime_ns
    assert main(["view", str(run), "--out", str(tmp_path), "--no-open"]) == 0
    assert (tmp_path / f"{behaviours[0]}.html").stat().st_mtime_ns == before
    assert len(opened) == 1
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    capsys.readouterr()
    assert main(["view", str(run), "--out", str(tmp_path)]) == 0
    assert "no browser could be started" in capsys.readouterr().err


def test_a_run_without_steering_has_a_page_without_it(tmp_path, run):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "steering.csv").unlink()
    assert all(evidence.dose is None for _, evidence in run_circuits(copy).values())
    assert main(["view", str(copy), "--no-open"]) == 0


def test_steering_of_the_run_is_what_the_slider_shows(run):
    import pandas as pd

    table = pd.read_csv(run / "steering.csv")
    for name, (_, evidence) in run_circuits(run).items():
        rows = table[table.behaviour == name]
        assert list(evidence.dose.strengths) == sorted(rows.strength.unique())
        assert {curve.direction for curve in evidence.dose.curves} == set(rows.direction)
        for curve in evidence.dose.curves:
            own = rows[rows.direction == curve.direction].sort_values("strength")
            assert list(curve.rate) == own.rate.tolist()
            assert (list(curve.ci_low), list(curve.ci_high)) == (own.ci_low.tolist(), own.ci_high.tolist())


def test_evidence_of_other_stages_is_read(capsys, tmp_path, run):
    copy = shutil.copytree(run, tmp_path / "run")
    graph = run_circuits(copy)["blackmail"][0]
    path = PathShare((graph.nodes[0].id, "target/logit_diff"), 0.5, "desperate")
    CircuitEvidence(emotion="afraid", paths=(path,)).save(copy / "evidence_blackmail.json")
    evidence = run_circuits(copy)["blackmail"][1]
    assert (evidence.emotion, evidence.paths) == ("afraid", (path,))
    assert evidence.dose is not None  # what the file does not say still comes from the run
    (copy / "evidence_blackmail.json").write_text('{"schema": "emocircuits.evidence", "schema_version": 2}')
    assert "version 2" in fails(capsys, 2, "view", copy, "--no-open")


def fetch(address, host=None):
    request = urllib.request.Request(address, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.fixture
def served():
    pages = {"blackmail": b"<p>page", "a/b<c>": b"<p>other"}
    server = page_server(lambda: pages)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", server
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_server_gives_pages_and_nothing_else(served):
    address, server = served
    assert server.server_address[0] == "127.0.0.1"
    assert fetch(f"{address}/blackmail.html") == (200, b"<p>page")
    status, index = fetch(f"{address}/")
    assert status == 200 and b'href="blackmail.html"' in index and b"<c>" not in index
    for path in (
        "/nothing.html",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/etc/passwd.html",
        "/blackmail",
    ):
        assert fetch(address + path)[0] == 404
    assert fetch(f"{address}/blackmail.html", host="evil.example")[0] == 403


def test_a_taken_port_is_refused(served):
    from emocircuits.errors import UserError

    with pytest.raises(UserError, match="cannot be used.*--port"):
        page_server(dict, served[1].server_address[1])


def test_serve_runs_until_ctrl_c(tmp_path):
    nasty().save(tmp_path / "c.json")
    command = [
        sys.executable,
        "-u",
        "-m",
        "emocircuits.cli.main",
        "view",
        str(tmp_path / "c.json"),
        "--serve",
        "--no-open",
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a job in the background of a shell ignores Ctrl-C, and so do its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wait_for(lambda: select.select([process.stdout], [], [], 0)[0], "the server's address")
        address = process.stdout.readline().split()[0]
        assert address.startswith("http://127.0.0.1:")
        assert fetch(f"{address}nasty.html")[0] == 200
        process.send_signal(signal.SIGINT)
        _, stderr = finished(process, "the server's end after Ctrl-C")
        assert process.returncode == 0, stderr
    finally:
        process.kill()
        process.wait()


def test_figures_by_name_and_venue(capsys, tmp_path, run):
    out = tmp_path / "figures"
    assert (
        main(["figures", str(run), "--only", "steering,sae_quality", "--venue", "icml", "--out", str(out)])
        == 0
    )
    assert len(capsys.readouterr().out.splitlines()) == 11
    assert {path.stem for path in out.iterdir()} == {"steering", "sae_quality", "index"}
    assert 'width="486pt"' in (out / "steering.svg").read_text()  # 6.75 inches


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "sae_pareto"], "the run has no sweep/sweep.csv"),
        (["--only", "steerin"], "did you mean 'steering'"),
        (["--venue", "nature"], "unknown venue 'nature'"),
    ],
)
def test_figures_that_cannot_be_drawn(capsys, tmp_path, run, arguments, message):
    assert main(["figures", str(run), *arguments, "--out", str(tmp_path / "none")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
