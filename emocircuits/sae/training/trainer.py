"""One SAE on its way: sae-lens' own `SAETrainer` on scaled rows, its checkpoints, and the end of training.

Rows are scaled to unit variance while training (the scale is folded into the weights at the end), so one
learning rate fits all sites; `b_dec` starts at the mean of the rows, which keeps features alive where the
mean is large (Simon et al. 2026).
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sae_lens import SAETrainer, TrainingSAE
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import SAEMetadata
from torch import Tensor

from emocircuits.errors import UserError
from emocircuits.progress import say
from emocircuits.sae.architectures.card import ARCHITECTURES, Blocks
from emocircuits.sae.settings import SAESettings
from emocircuits.sae.training.checkpoint import Checkpoints
from emocircuits.sae.training.data_parallel import share_gradients, step_together

_SEEDING = threading.Lock()


@dataclass(frozen=True, eq=False)
class SiteRows:
    """The rows of one site: where they come from and how they are scaled.

    Attributes:
        site: hook name.
        mean: mean row.
        deviation: root mean square deviation per coordinate.
        about: `model_name`, `model_hash` and a hash of the rows' origin, kept in the SAE's metadata.
    """

    site: str
    mean: Float[np.ndarray, "d_model"]
    deviation: float
    about: dict[str, Any]

    @property
    def scale(self) -> float:
        """What rows are multiplied by while training."""
        return float(1 / self.deviation)

    @property
    def mean_to_spread(self) -> float:
        """|mean| / |sigma|: how far the rows lie from the origin in units of their spread."""
        return float(np.linalg.norm(self.mean) / (self.deviation * np.sqrt(len(self.mean))))


class Training:
    """Trains one SAE step by step; resumes from the newest checkpoint where there is one.

    Args:
        source: where the rows come from.
        settings: how.
        seed: seed of the initial weights.
        device: torch device.
        checkpoints: where the state is kept and found; None keeps none.
        together: whether the ranks of a job train it together, each on its part of every batch.

    Raises:
        UserError: an unknown architecture, or one whose batches cannot be split although `together`.
    """

    def __init__(
        self,
        source: SiteRows,
        settings: SAESettings,
        *,
        seed: int = 0,
        device: str = "cpu",
        checkpoints: Checkpoints | None = None,
        together: bool = False,
    ):
        self.source, self.settings, self._checkpoints, self._together = (
            source,
            settings,
            checkpoints,
            together,
        )
        self._member = ARCHITECTURES.get(settings.architecture)
        if together and not self._member.splits:
            raise UserError(
                f"the loss of {settings.architecture} depends on the batch as a whole",
                expected=", ".join(member.name for member in ARCHITECTURES if member.splits),
                cure="let the ranks share the sites instead: --set sae.spread=sites",
            )
        metadata = SAEMetadata(
            **source.about,
            hook_name=source.site,
            prepend_bos=True,
            training={**settings.recorded, "seed": seed},
            mean_to_spread=source.mean_to_spread,
        )
        with _SEEDING, torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.sae: TrainingSAE = self._member.build(settings, len(source.mean), metadata, device)
        self.sae.b_dec.data = torch.from_numpy(source.mean * source.scale).to(self.sae.b_dec)
        self.sae.W_dec.requires_grad_(not settings.frozen_decoder)
        self.trainer = make_trainer(self.sae, settings, device)
        if together:
            share_gradients(self.sae)
        if checkpoints is not None and checkpoints.restore(self.trainer):
            say(f"{source.site}: resumes from step {self.steps_done} of {settings.steps}")
        self._saved = time.monotonic()

    @property
    def steps_done(self) -> int:
        """Optimiser steps done."""
        return self.trainer.n_training_steps

    @property
    def is_done(self) -> bool:
        """Whether all steps are done."""
        return self.steps_done >= self.settings.steps

    def step(self, batch: Float[Tensor, "batch d_in"]) -> None:
        """One step of `SAETrainer.fit` on scaled rows (the loop of `fit` over its public parts, without its
        progress bar).
        """
        self.trainer.maybe_reset_sparsity()
        if self._together:
            step_together(self.trainer, batch)
        else:
            self.trainer.step(batch)
        self._member.after_step(self.sae)
        self.trainer.n_training_steps += 1
        if self._checkpoints is not None and time.monotonic() - self._saved >= 60 * self._checkpoints.minutes:
            self.save()

    def run(self, batches: Iterator[Float[Tensor, "batch d_in"]], after_step: Callable[[int], None]) -> None:
        """All steps that are left; when `after_step` raises, a checkpoint is written first.

        Args:
            batches: scaled rows from step `steps_done` on.
            after_step: called at step boundaries with the number of steps since the last call.
        """
        if self.steps_done:
            after_step(self.steps_done)
        while not self.is_done:
            self.step(next(batches))
            try:
                after_step(1)
            except BaseException:
                self.save()
                raise

    def save(self) -> None:
        """Writes a checkpoint, where checkpoints are kept."""
        if self._checkpoints is not None:
            self._checkpoints.save(self.trainer)
        self._saved = time.monotonic()

    def finish(self, held_out: Blocks) -> TrainingSAE:
        """Makes the SAE ready to be saved for inference: scale and norms folded, thresholds measured on
        held-out rows.
        """
        self.trainer.set_final_sae_metadata()
        self.sae.fold_activation_norm_scaling_factor(self.source.scale)
        self._member.finish(self.sae, held_out)
        return self.sae


def make_trainer(sae: TrainingSAE, settings: SAESettings, device: str = "cpu") -> SAETrainer:
    """sae-lens' trainer with schedules that follow from the length of the run; batches are given to its
    `step`.
    """
    trainer = SAETrainer(
        cfg=SAETrainerConfig(
            total_training_samples=settings.steps * settings.batch_size,
            train_batch_size_samples=settings.batch_size,
            lr=settings.lr,
            lr_end=settings.lr / 10,
            lr_warm_up_steps=settings.warm_up_steps,
            lr_decay_steps=settings.decay_steps,
            device=device,
            dead_feature_window=settings.dead_feature_window,
            feature_sampling_window=max(1, settings.steps // 2),
        ),
        sae=sae,
        data_provider=iter(()),
    )
    for group in trainer.optimizer.param_groups:
        group["fused"] = True  # one pass over weights, gradients and moments instead of six
    return trainer
