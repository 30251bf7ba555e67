"""`emocircuits steer text|check` and `monitor` on the debug run, whose model is the default."""

import json
import shutil

import pytest

from emocircuits.cli.main import main


def test_text_is_written_by_the_model_of_the_run(debug_run, capsys):
    given = ["--emotion", "desperate", "--strengths", "-0.5,0.5", "--prompt", "alex was", "--tokens", "3"]
    assert main(["steer", "text", str(debug_run), *given, "--json", "--quiet"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["strength"] for row in rows] == [0.0, -0.5, 0.5]
    assert rows[0]["logit_change"] == 0 < min(row["logit_change"] for row in rows[1:])
    named = [*given, "--model", str(debug_run / "model"), "--json", "--quiet"]
    assert main(["steer", "text", str(debug_run / "directions.h5"), *named]) == 0
    assert json.loads(capsys.readouterr().out) == rows


def test_check_finds_steering_live_at_every_site(debug_run, capsys):
    assert main(["steer", "check", str(debug_run), "--json", "--quiet"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == len({row["site"] for row in rows}) > 1


def test_the_monitor_reads_with_the_model_of_the_run(debug_run, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("alex was broke .\n")
    given = ["--text", str(tmp_path / "prompts.txt"), "--tokens", "2", "--fpr", "0.05", "--quiet"]
    assert main(["monitor", str(debug_run), *given]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert set(lines[0]["thresholds"]) == {"desperate"} and lines[-1]["request"] == 0


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("directions.h5", "directions.h5 belongs to no run; say whose directions they are with --model"),
        ("nowhere", "nowhere does not exist"),
    ],
)
def test_directions_outside_a_run_need_a_model(debug_run, tmp_path, capsys, source, text):
    shutil.copy(debug_run / "directions.h5", tmp_path)
    assert main(["steer", "check", str(tmp_path / source), "--quiet"]) == 2
    error = capsys.readouterr().err.strip()
    assert text in error and "\n" not in error
