"""A stage that is cut off between two parts resumes after the first and leaves the same bytes."""

import shutil
import signal
import sys
from pathlib import Path

import pytest
from fixtures.waits import run_to_end

from emocircuits.artifacts.manifest import RunManifest
from emocircuits.runs import execute
from emocircuits.runs.parts import FOLDER, Parts
from emocircuits.runs.run import Run

DRIVER = Path(__file__).with_name("kill_driver.py")


class Cut(Exception):
    """The end of a stage before its time."""


@pytest.fixture
def run(debug_run, tmp_path) -> Path:
    """A finished run to work in."""
    return Path(shutil.copytree(debug_run, tmp_path / "run"))


def outputs(run: Path, stage: str) -> dict[str, str]:
    return RunManifest.load(run / "manifest.json").stages[stage].outputs


def resumed(run: Path, stage: str, monkeypatch) -> tuple[list[str], list[str]]:
    """Does a stage; names of the parts that were taken, and of those that were made."""
    taken, made = [], []

    class Watched(Parts):
        def __call__(self, name, make, *classes):
            size = len(made)
            value = super().__call__(name, lambda: (made.append(name), make())[1], *classes)
            taken.extend([name] if len(made) == size else [])
            return value

    monkeypatch.setattr(execute, "Parts", Watched)
    execute.run_pipeline(Run.open(run).recipe, run, only=stage)
    return taken, made


def check_what_is_left(run: Path, stage: str, parts: int, before: dict[str, str], monkeypatch) -> None:
    assert stage not in RunManifest.load(run / "manifest.json").stages
    kept = {path.name for path in (run / FOLDER / stage).iterdir()} - {"key"}
    assert len(kept) == parts
    taken, made = resumed(run, stage, monkeypatch)
    assert len(taken) == parts and not set(taken) & set(made)
    assert outputs(run, stage) == before
    assert not (run / FOLDER).exists()


@pytest.mark.parametrize(
    ("stage", "parts"),
    [("directions", 1), ("sae", 2), ("attribute", 1), ("circuit", 2), ("evaluate", 1), ("steer", 2)],
)
def test_a_stage_takes_what_is_finished_and_ends_with_the_same_bytes(run, monkeypatch, stage, parts):
    before, finished = outputs(run, stage), []

    class Short(Parts):
        def __call__(self, name, make, *classes):
            value = super().__call__(name, make, *classes)
            finished.append(name)
            if len(finished) == parts:
                raise Cut
            return value

    monkeypatch.setattr(execute, "Parts", Short)
    with pytest.raises(Cut):
        execute.run_pipeline(Run.open(run).recipe, run, only=stage)
    check_what_is_left(run, stage, parts, before, monkeypatch)


def test_a_killed_process_leaves_parts_that_are_taken(run, monkeypatch):
    before = outputs(run, "directions")
    done = run_to_end([sys.executable, str(DRIVER), str(run), "directions", "1"])
    assert done.returncode == -signal.SIGKILL, done.stderr
    check_what_is_left(run, "directions", 1, before, monkeypatch)
