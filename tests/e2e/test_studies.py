"""The studies of `analyses/` run from a finished run, end in pictures and tables, and assert what
they say.
"""

import runpy
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STUDIES = sorted((ROOT / "analyses").glob("[0-9][0-9]_*.py"))


@pytest.fixture(scope="module")
def run(debug_run, tmp_path_factory):
    """A copy: studies write beside the run's files."""
    return Path(shutil.copytree(debug_run, tmp_path_factory.mktemp("studies") / "run"))


def test_there_are_studies_of_directions_matches_steering_circuits_and_real_models():
    assert [path.stem[:2] for path in STUDIES] == ["01", "02", "03", "04", "05"]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_runs_and_leaves_tables_and_pictures(path, run, monkeypatch, capsys):
    monkeypatch.setenv("EMOCIRCUITS_RUN", str(run))
    monkeypatch.setenv("EMOCIRCUITS_RECIPE", str(ROOT / "analyses/recipes/debug.toml"))
    runpy.run_path(str(path), run_name="__main__")
    made = run / "studies" / path.stem
    assert list(made.glob("*.csv")) and list(made.glob("*.png"))
