"""A run that looks at some layers: all is read, trained and traced there alone, at the model's depths."""

import json

import pytest
from families.family_world import SETTINGS

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.errors import UserError
from emocircuits.names import parse_node, residual_site
from emocircuits.runs.execute import run_pipeline
from emocircuits.runs.recipe import recipe_from_dict
from emocircuits.runs.run import Run

LAYERS = (0, 1)
SITES = tuple(map(residual_site, LAYERS))


def recipe(layers, **changes):
    return recipe_from_dict({**SETTINGS, "model": "planted", "layers": layers, **changes})


def test_every_stage_looks_at_the_chosen_layers(tmp_path):
    run_pipeline(recipe([*LAYERS], circuit={**SETTINGS["circuit"], "from_depth": 0.5}), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert run.model.n_layers == 3 and run.model.sites == run.planned_sites == SITES
    assert run.store.sites == run.directions.sites == run.matches.sites == SITES
    assert {path.name for path in run.path("saes").iterdir()} == set(SITES)
    effects = run.attribution("reward_hacking")
    assert {parse_node(node).site for node in effects.nodes} == set(SITES)
    # block 0 ends at a third of the depth, block 1 at two thirds
    circuit = CircuitGraph.load(run.path("circuit_reward_hacking.json"))
    assert run.circuit_sites == SITES[1:] and {node.site for node in circuit.nodes if node.site} == {SITES[1]}
    summary = json.loads(run.path("summary.json").read_text())
    assert summary["behaviours"]["reward_hacking"]["circuit_nodes"] > 0
    assert run.path("report.html").stat().st_size > 0


def test_layers_are_checked_before_the_first_stage(tmp_path):
    with pytest.raises(UserError, match="layers names 4; expected blocks 0 to 2"):
        run_pipeline(recipe([1, 4]), tmp_path / "run")
    with pytest.raises(UserError, match="circuit.from_depth 0.5 leaves no site of blocks.0.hook_resid_post"):
        run_pipeline(recipe([0], circuit={"from_depth": 0.5}), tmp_path / "other")
    assert not list((tmp_path / "run").glob("*.h5"))
