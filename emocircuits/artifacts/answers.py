"""What a circuit answers when it is asked: how faithful it is, and along which paths it runs."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


class Faithfulness(float):
    """F of a circuit, a number with what it was made of (`emocircuits.circuits.faithfulness`).

    Attributes:
        ci_low, ci_high: bootstrap interval over prompts.
        m_circuit, m_full, m_empty: mean metric with the circuit, with everything and with nothing kept.
        values: metric per prompt with the circuit kept.
        ablation: what all else was set to.
    """

    ci_low: float
    ci_high: float
    m_circuit: float
    m_full: float
    m_empty: float
    values: Float[np.ndarray, "prompt"]
    ablation: str

    def __repr__(self) -> str:
        return (
            f"Faithfulness({float(self):.3f}, 95 % interval {self.ci_low:.3f} to {self.ci_high:.3f}, "
            f"{self.ablation} ablation)"
        )


@dataclass(frozen=True)
class Path:
    """One path through a circuit (`emocircuits.circuits.paths`).

    Attributes:
        nodes: ids from source to target.
        amount: what runs along it, in units of the metric.
        share: amount as a share of what the source sends in all.
    """

    nodes: tuple[str, ...]
    amount: float
    share: float
