"""An ablation: halfway between a node's corrupt value and its mean over corrupt prompts."""

from pathlib import Path

from emocircuits import ABLATIONS, Ablation, Run

ABLATIONS.add(
    Ablation(
        "halfway",
        "halfway between the corrupt value and the mean",
        value=lambda other, mean: (other + mean) / 2,
        needs_mean=True,
    )
)


def example(directory: Path) -> None:
    """A circuit that is faithful under both ends is faithful in between."""
    run = Run.open(directory)
    _, held_out = run.tasks("reward_hacking")
    assert 0.5 < run.circuit("reward_hacking").faithfulness(held_out, ablation="halfway") < 1.5
