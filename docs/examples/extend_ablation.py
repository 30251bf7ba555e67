"""An ablation: halfway between a node's corrupt value and its mean over corrupt prompts."""

from pathlib import Path

from emocircuits import CircuitGraph
from emocircuits.interventions.ablate import ABLATIONS, AblationCard, Baseline
from emocircuits.runs.execute import open_run
from emocircuits.runs.workspace import Workspace


def halfway(corrupt: Baseline, mean: Baseline) -> Baseline:
    """The value that what lies outside the circuit is set to."""
    return Baseline((corrupt.features + mean.features) / 2, (corrupt.error + mean.error) / 2)


ABLATIONS.add(AblationCard("halfway", "halfway between the corrupt value and the mean", True, halfway))


def example(run: Path) -> None:
    """A circuit that is faithful under both ends is faithful in between."""
    recipe, manifest = open_run(run)
    workspace = Workspace(recipe, run, manifest=manifest)
    circuit = CircuitGraph.load(run / "circuit_reward_hacking.json")
    (pairs,) = workspace.pairs("reward_hacking", "score", 12)
    saes = {site: workspace.sae(site) for site in workspace.circuit_sites}
    metric = workspace.behaviour("reward_hacking").metric
    kept = circuit.faithfulness(
        workspace.model.bridge, pairs.clean, pairs.corrupt, metric, saes, ablation="halfway"
    )
    assert 0.5 < kept < 1.5
