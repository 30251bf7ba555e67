"""What an SAE architecture is: how its training object is made, and how it becomes an inference SAE."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from jaxtyping import Float
from sae_lens import TrainingSAE
from sae_lens.saes.sae import SAEMetadata
from torch import Tensor

from emocircuits.registry import Registry
from emocircuits.sae.settings import SAESettings

Blocks = Callable[[], Iterable[Float[Tensor, "block d_in"]]]
"""Gives, each time it is called, the same rows in blocks: rows the SAE did not learn from, where there are
any.
"""


@dataclass(frozen=True)
class Architecture:
    """One member.

    Attributes:
        name: its name in settings and file names.
        summary: one line on what decides which features are active.
        build: (settings, d_in, metadata, device) -> training SAE with sae-lens' initial weights.
        finish: (training SAE, held-out rows) -> nothing; makes the trained SAE ready to be saved for
            inference, in place: decoder rows get unit length, a threshold that training only estimates is
            measured.
        splits: whether the step of a batch is the mean of its parts' steps, so that several ranks can share a
            batch.
        after_step: called after every training step, e.g. to keep a constraint on the weights.
    """

    name: str
    summary: str
    build: Callable[[SAESettings, int, SAEMetadata, str], TrainingSAE]
    finish: Callable[[TrainingSAE, Blocks], None]
    splits: bool = True
    after_step: Callable[[TrainingSAE], None] = lambda sae: None


ARCHITECTURES: Registry[Architecture] = Registry("SAE architecture")


def fold_norms(sae: TrainingSAE, rows: Blocks) -> None:
    """Folds the decoder norms into the encoder: decoder rows get unit length, the outputs stay. Reads no
    rows.
    """
    sae.fold_W_dec_norm()
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        sae.cfg.rescale_acts_by_decoder_norm = False
