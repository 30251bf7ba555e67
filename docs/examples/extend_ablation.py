"""An ablation: halfway between a node's corrupt value and its mean over corrupt prompts."""

from pathlib import Path

from emocircuits.interventions.ablate import ABLATIONS, AblationCard, Baseline
from emocircuits.runs.run import Run


def halfway(corrupt: Baseline, mean: Baseline) -> Baseline:
    """The value that what lies outside the circuit is set to."""
    return Baseline((corrupt.features + mean.features) / 2, (corrupt.error + mean.error) / 2)


ABLATIONS.add(AblationCard("halfway", "halfway between the corrupt value and the mean", True, halfway))


def example(directory: Path) -> None:
    """A circuit that is faithful under both ends is faithful in between."""
    run = Run.open(directory)
    circuit = run.circuit("reward_hacking")
    (pairs,) = run.pairs("reward_hacking", "score", 12)
    saes = {site: run.sae(site) for site in run.circuit_sites}
    metric = run.behaviour("reward_hacking").metric
    kept = circuit.faithfulness(
        run.model.bridge, pairs.clean, pairs.corrupt, metric, saes, ablation="halfway"
    )
    assert 0.5 < kept < 1.5
