"""A run as one object: opened or made, its files and artifacts, and how little it loads."""

import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from emocircuits import Run
from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.artifacts.matches import FeatureMatches
from emocircuits.errors import UserError


def test_an_open_run_has_its_recipe_its_record_and_its_artifacts(debug_run):
    run = Run.open(debug_run, ["steer.prompts=3"])
    assert run.recipe.name == "debug" and run.recipe.steer.prompts == 3
    assert list(run.manifest.stages)[:2] == ["plan", "collect"] and run.summary["model"] == "planted"
    assert isinstance(run.directions, EmotionDirections) and isinstance(run.matches, FeatureMatches)
    assert run.store.sites == tuple(run.saes) == run.model.sites
    assert isinstance(run.circuit("reward_hacking"), CircuitGraph)
    assert run.attribution("reward_hacking").behaviour == "reward_hacking"
    assert run.evidence("reward_hacking").dose is not None
    assert isinstance(run.table("steering.csv"), pd.DataFrame)
    assert "reward_hacking" in run.document("scores.json")
    assert "debug" not in repr(run) or "done: plan, collect" in repr(run)


def test_artifacts_are_read_once_until_they_are_forgotten(debug_run):
    run = Run.open(debug_run)
    first = run.directions
    assert run.directions is first
    run.forget()
    assert run.directions is not first


def test_what_a_run_lacks_is_named(debug_run, tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        Run.open(tmp_path)
    run = Run.open(debug_run)
    for read in (run.table, run.document):
        with pytest.raises(UserError, match="has no nothing.at.all"):
            read("nothing.at.all")
    assert run.files.table("nothing.at.all") is None


def test_a_recipe_with_keys_of_another_version_says_which_run_it_is(debug_run, tmp_path):
    shutil.copy(debug_run / "manifest.json", tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["recipe"]["directions"]["start_token"] = manifest["recipe"]["directions"].pop("from_token")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError) as caught:
        Run.open(tmp_path)
    assert str(tmp_path) in str(caught.value) and "directions.start_token" in str(caught.value)
    assert "run it again" in str(caught.value)


def test_a_finished_run_is_not_made_again(debug_run):
    stamp = (debug_run / "manifest.json").stat().st_mtime_ns
    assert Run.make(debug_run, "organism").recipe.name == "debug"
    assert (debug_run / "manifest.json").stat().st_mtime_ns == stamp
    with pytest.raises(UserError, match="did you mean 'steer'"):
        Run.make(debug_run, until="steeer")


@pytest.mark.parametrize(
    "read",
    ["table('steering.csv')", "summary", "circuit('reward_hacking')", "evidence('reward_hacking')"],
)
def test_reading_what_a_run_says_loads_no_torch(debug_run, read):
    probe = (
        f"import sys; from emocircuits import Run; run = Run.open({str(debug_run)!r}); run.{read}; "
        "print([name for name in ('torch', 'transformers', 'sae_lens', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
