"""The lines of the README run as they are written; the first notebook holds the same code."""

import ast
import os
import sys
from functools import partial
from pathlib import Path

import pytest
from fixtures.waits import run_to_end

import emocircuits as emo

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "notebooks" / "00_twelve_lines.py"
PARTS = "print(run.model, run.directions, sorted(run.saes), run.matches, run.summary['model'])"


def lines() -> str:
    """The Python block of the README."""
    (block,) = (ROOT / "README.md").read_text(encoding="utf-8").split("```python\n")[1:]
    return block.split("```")[0]


def test_the_readme_holds_twelve_lines():
    assert [type(line).__name__ for line in ast.parse(lines()).body].count("Import") == 1
    assert len(lines().strip().splitlines()) == 2 + 12


def test_the_first_notebook_holds_the_same_code():
    notebook = NOTEBOOK.read_text(encoding="utf-8")
    assert ast.dump(ast.parse(notebook)) == ast.dump(ast.parse(lines()))


def test_the_lines_run_on_the_planted_model(debug_run, tmp_path, monkeypatch, capsys):
    """The same lines with the planted model, its behaviour, and settings for a minute less."""
    small = {
        "learn_directions": emo.DirectionSettings(from_token=12),
        "train_saes": emo.SAESettings(expansion=2, k=12, training_rows=200_000, batch_size=512),
        "match_features": emo.MatchSettings(permutations=100),
    }
    for name, settings in small.items():
        monkeypatch.setattr(emo, name, partial(getattr(emo, name), settings=settings))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "organism").symlink_to(debug_run)
    code = lines().replace('_model("organism")', '_model("planted")').replace("blackmail", "reward_hacking")
    names: dict = {}
    exec(code.replace('_texts("organism")', '_texts("planted")'), names)
    assert names["circuit"].nodes and len(names["circuit"].nodes) <= 61
    assert 0.5 < emo.faithfulness(names["circuit"], names["held_out"]) < 1.5
    assert set(names["saes"]) == set(names["model"].sites)
    said = capsys.readouterr()
    assert said.out.startswith("Faithfulness(")
    page = Path(said.err.split("the circuit as a page: ")[1].splitlines()[0])
    assert (
        "<!doctype html>" in page.read_text(encoding="utf-8") and page.name == "circuit_reward_hacking.html"
    )
    run = names["run"]
    assert run.circuit("reward_hacking").behaviour == names["circuit"].behaviour


@pytest.mark.slow
def test_the_lines_run_as_they_are_written(debug_run, tmp_path):
    """On the organism, with every default; the finished run of the last line is another one."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "organism").symlink_to(debug_run)
    (tmp_path / "lines.py").write_text(lines() + PARTS + "\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = run_to_end([sys.executable, "lines.py"], seconds=7200.0, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Faithfulness(") and "the circuit as a page" in done.stderr
    assert 0.4 < float(done.stdout.split("(")[1].split(",")[0]) < 1.5
