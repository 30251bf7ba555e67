"""The whole instrument on the planted model, whose circuit is known: contract, truth, resume, kill."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from fixtures.waits import run_to_end, wait_for

ROOT = Path(__file__).resolve().parents[2]
DEBUG = str(ROOT / "analyses/recipes/debug.toml")


def numbers(value, path=""):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from numbers(item, f"{path}.{key}")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, value


def without_times(summary):
    return {key: value for key, value in summary.items() if key not in ("seconds", "peak_rss_mb")}


def test_summary_keeps_the_contract(debug_run):
    summary = json.loads((debug_run / "summary.json").read_text())
    assert {
        "model",
        "n_params",
        "emotions",
        "behaviours",
        "directions",
        "saes",
        "matches",
        "seconds",
        "peak_rss_mb",
        "warnings",
    } <= set(summary)
    one = summary["behaviours"]["reward_hacking"]
    assert {
        "baseline_rate",
        "true_rate",
        "logit_diff",
        "desperate_steering_slope",
        "random_steering_slope",
        "p_value",
        "desperation_features",
        "circuit_nodes",
        "circuit_edges",
        "faithfulness",
        "random_circuit_faithfulness",
        "attribution_exact_pearson",
        "attribution_exact_slope",
    } <= set(one)
    assert {"site", "feature", "cosine", "auroc", "q_value"} <= set(summary["matches"]["desperate"])
    assert all(math.isfinite(value) for _, value in numbers(summary))
    assert set(summary["seconds"]) >= {
        "plan",
        "collect",
        "directions",
        "sae",
        "match",
        "attribute",
        "circuit",
        "evaluate",
        "steer",
        "export",
        "figures",
    }


def test_every_file_of_the_contract_is_there(debug_run):
    for name in (
        "manifest.json",
        "activations.h5",
        "directions.h5",
        "directions.csv",
        "saes.csv",
        "matches.h5",
        "matches.csv",
        "attribution_reward_hacking.h5",
        "circuit_reward_hacking.json",
        "scores.json",
        "steering.csv",
        "report.html",
        "summary.json",
        "figures/index.html",
    ):
        assert (debug_run / name).stat().st_size > 0, name
    for suffix in ("json", "graphml", "gexf", "dot", "svg", "html", "neuronpedia.json"):
        assert (debug_run / f"export/reward_hacking.{suffix}").stat().st_size > 0, suffix


def test_the_planted_truth_is_found(debug_run):
    """The model cheats by desperate words only: its rate is the formula's, desperate steers it up, and the
    circuit is faithful.
    """
    one = json.loads((debug_run / "summary.json").read_text())["behaviours"]["reward_hacking"]
    assert one["baseline_rate"] == pytest.approx(one["true_rate"], abs=1e-4)
    assert one["desperate_steering_slope"] > abs(one["random_steering_slope"]) and one["p_value"] <= 0.05
    assert one["faithfulness"] > 0.6 > 0.2 > one["random_circuit_faithfulness"]
    assert one["attribution_exact_pearson"] > 0.95
    steering = pd.read_csv(debug_run / "steering.csv")
    ends = steering[steering["strength"] == steering["strength"].max()].set_index("direction")["rate"]
    assert ends["desperate"] > ends["calm"]


def test_a_second_run_does_nothing_and_changes_nothing(debug_run):
    from emocircuits.cli.main import main

    before = {
        path: path.stat().st_mtime_ns
        for path in debug_run.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    stages = json.loads((debug_run / "manifest.json").read_text())["stages"]
    assert main(["run", DEBUG, "--out", str(debug_run), "--quiet"]) == 0
    assert json.loads((debug_run / "manifest.json").read_text())["stages"] == stages
    after = {
        path: path.stat().st_mtime_ns
        for path in debug_run.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    assert {path: stamp for path, stamp in after.items() if path.name != ".lock"} == {
        path: stamp for path, stamp in before.items() if path.name != ".lock"
    }


def test_graph_file_passes_the_checker(debug_run):
    checker = ROOT.parent / "shared/tools/check_graph_json.py"
    if not checker.is_file():
        pytest.skip("the graph checker is not beside the project (looked in ../shared/tools)")
    graph = debug_run / "export/reward_hacking.neuronpedia.json"
    done = run_to_end([sys.executable, str(checker), str(graph)])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_numbers(debug_run, tmp_path):
    """SIGKILL while the stage after `collect` runs and again after `sae`, then the same command: the same
    summary, times aside.
    """
    out = tmp_path / "run"
    command = [sys.executable, "-m", "emocircuits.cli.main", "run", DEBUG, "--out", str(out), "--quiet"]
    for after in ("collect", "sae"):
        process, manifest = subprocess.Popen(command, start_new_session=True), out / "manifest.json"
        wait_for(
            lambda: manifest.exists() and after in json.loads(manifest.read_text())["stages"],
            f"the stage {after} was done",
            seconds=240,
            process=process,
        )
        time.sleep(0.3)  # the next stage has begun; nothing depends on how far it came
        assert process.poll() is None, f"the run ended before it could be killed after {after}"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = run_to_end(command)
    assert done.returncode == 0, done.stderr
    assert without_times(json.loads((out / "summary.json").read_text())) == without_times(
        json.loads((debug_run / "summary.json").read_text())
    )
