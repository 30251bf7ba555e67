"""Every stage of `emocircuits run` on a tiny random model of every family: no network, seconds each."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from families.family_world import run_family

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.artifacts.manifest import RunManifest
from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.models import FAMILIES
from emocircuits.stages import STAGES

# what must be there after each stage; the drawing of a figure into a file is the same for all and is tested
# elsewhere
FILES = {
    "plan": ("model.json",),
    "collect": ("activations.h5",),
    "directions": ("directions.h5", "directions.csv"),
    "sae": (
        "saes.csv",
        *(f"saes/blocks.{layer}.hook_resid_post/sae_weights.safetensors" for layer in range(3)),
    ),
    "match": ("matches.h5", "matches.csv"),
    "attribute": ("attribution_reward_hacking.h5",),
    "circuit": ("circuit_reward_hacking.json",),
    "evaluate": ("scores.json",),
    "steer": ("steering.csv",),
    "export": ("export/reward_hacking.html", "export/reward_hacking.graphml"),
    "figures": ("figures/index.html",),
    "report": ("report.html", "summary.json"),
}


# by default those that differ most from the planted model, whose family is llama; how the others differ is
# held by tests/oracle and tests/models
QUICK = {"gpt2", "gpt_neox", "gemma2"}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAMILIES.names()],
)
def run(request, tmp_path_factory):
    return run_family(request.param, tmp_path_factory.mktemp(request.param))


def finite(value) -> bool:
    if isinstance(value, dict):
        return all(finite(item) for item in value.values())
    return not isinstance(value, float) or math.isfinite(value)


def test_every_stage_ran_on_the_family(run):
    assert set(FILES) == set(STAGES.names()) == set(RunManifest.load(run.directory / "manifest.json").stages)
    for stage, names in FILES.items():
        for name in names:
            assert (run.directory / name).stat().st_size > 0, (stage, name)
    model = json.loads((run.directory / "model.json").read_text())
    assert model["family"] == run.family and all(check["passed"] for check in model["checks"])
    summary = json.loads((run.directory / "summary.json").read_text())
    assert finite(summary) and summary["behaviours"]["reward_hacking"]["circuit_nodes"] > 1


def test_the_numbers_are_the_models_own(run):
    """Nothing silently read zeros: every layer has activations of its own, effects and steering move the
    metric.
    """
    store = ActivationStore.open(run.directory / "activations.h5")
    rows = [store.read(site, np.arange(1, 200)) for site in store.sites]
    assert all(abs(one).max() > 0 for one in rows) and abs(rows[0] - rows[1]).max() > 1e-3
    scores = json.loads((run.directory / "scores.json").read_text())["reward_hacking"]
    exact = [point["exact"] for point in scores["attribution_exact"]["points"]]
    assert max(map(abs, exact)) > 1e-4
    steering = pd.read_csv(run.directory / "steering.csv")
    moved = steering[steering.direction == "desperate"].set_index("strength").logit_diff
    assert abs(moved[0.5] - moved[-0.5]) > 1e-3
    graph = CircuitGraph.load(run.directory / "circuit_reward_hacking.json")
    assert any(edge.verified is not None for edge in graph.edges)
    assert all(
        one.verified is not None
        for one in (*graph.edges, *(node for node in graph.nodes if node.kind != "target"))
    )


def test_the_table_in_the_docs_has_every_family_and_stage():
    """`python -m tests.benchmarks.families` writes it."""
    text = (ROOT / "docs/families.md").read_text().partition("## Not opened")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert set(STAGES.names()) <= {cell.strip() for cell in rows[0].split("|")}
    assert [row.split("|")[1].strip() for row in rows[2:]] == sorted(FAMILIES.names())
    assert "| NO" not in text
