"""What an SAE architecture is: how its training object is made, and how it becomes an inference SAE."""

from collections.abc import Callable
from dataclasses import dataclass

from sae_lens import TrainingSAE
from sae_lens.saes.sae import SAEMetadata

from emocircuits.registry import Registry
from emocircuits.sae.settings import SAESettings


@dataclass(frozen=True)
class Architecture:
    """One member.

    Attributes:
        build: (settings, d_in, metadata, device) -> training SAE with sae-lens' initial weights.
        finish: makes the trained SAE ready to be saved for inference (folds norms, calibrates thresholds), in place.
    """

    build: Callable[[SAESettings, int, SAEMetadata, str], TrainingSAE]
    finish: Callable[[TrainingSAE], None]


ARCHITECTURES: Registry[Architecture] = Registry("SAE architecture")
