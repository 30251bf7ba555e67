"""The state of an SAE's training in one safetensors file: weights, Adam's moments, counters, schedules.

Written at step boundaries, whole or not at all, so that training killed at any moment resumes from the last
one and ends with the same bytes (batches are a function of the step, nothing else is random).
`SAETrainer.save_checkpoint` would do but for three things: it pickles, it writes in place, and its step
counter is one behind.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from sae_lens import SAETrainer
from sae_lens import __version__ as sae_lens_version
from safetensors.torch import save

from emocircuits.io.atomic import write_bytes
from emocircuits.progress import say
from emocircuits.provenance import sha256_json

COUNTERS = ("act_freq_scores", "n_forward_passes_since_fired")
NUMBERS = ("n_training_steps", "n_training_samples", "n_frac_active_samples")
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one SAE.

    Attributes:
        directory: holds `step-<number>.safetensors`.
        training_key: hash of settings, rows and site: a checkpoint of another training is never used.
        minutes: how often one is written; 0 means after every step.
        keep: how many are kept.
    """

    directory: Path
    training_key: str
    minutes: float = 5.0
    keep: int = 2

    @property
    def key(self) -> str:
        """Training and library versions: other versions need not give the same bytes."""
        return sha256_json([self.training_key, torch.__version__, sae_lens_version])

    def save(self, trainer: SAETrainer) -> Path:
        """Writes the state at a step boundary and removes the oldest ones.

        Raises:
            Failure: the disk is full or not writable; what was saved before stays.
        """
        path = self.directory / f"step-{trainer.n_training_steps:09d}.safetensors"
        state = {
            "key": self.key,
            "numbers": {name: getattr(trainer, name) for name in NUMBERS},
            "learning_rates": [group["lr"] for group in trainer.optimizer.param_groups],
            "lr_scheduler": trainer.lr_scheduler.state_dict(),
            "coefficients": {name: one.state_dict() for name, one in trainer.coefficient_schedulers.items()},
        }
        tensors = {name: value.detach().contiguous() for name, value in _tensors(trainer).items()}
        write_bytes(path, save(tensors, {"state": json.dumps(state)}))
        for old in self.paths()[: -self.keep]:
            old.unlink(missing_ok=True)
        return path

    def restore(self, trainer: SAETrainer) -> int:
        """Puts the newest usable state into a new trainer and returns its number of steps; 0 when there is
        none.
        """
        for path in reversed(self.paths()):
            try:
                state, tensors = self._read(path, trainer)
            except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
                say(f"{path.name} in {self.directory} is not used: {error}")
                continue
            _apply(trainer, state, tensors)
            return trainer.n_training_steps
        return 0

    def clear(self) -> None:
        """Removes all of them and the directory."""
        for path in self.paths():
            path.unlink(missing_ok=True)
        if self.directory.is_dir():
            for left in self.directory.glob(".step-*.tmp"):
                left.unlink(missing_ok=True)
            self.directory.rmdir()

    def paths(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.directory.glob("step-*.safetensors"))

    def _read(self, path: Path, trainer: SAETrainer) -> tuple[dict, dict[str, torch.Tensor]]:
        with safetensors.safe_open(path, "pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            if state["key"] != self.key:
                raise ValueError("it belongs to another training")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        expected = _shapes(trainer)
        found = {name: tuple(value.shape) for name, value in tensors.items()}
        if found != expected:
            raise ValueError(f"its tensors are {found}, not {expected}")
        for name in ("numbers", "learning_rates", "lr_scheduler", "coefficients"):
            state[name]
        return state, tensors


def _trained(trainer: SAETrainer) -> list[tuple[str, torch.nn.Parameter]]:
    return [
        (name, parameter) for name, parameter in trainer.sae.named_parameters() if parameter.requires_grad
    ]


def _tensors(trainer: SAETrainer) -> dict[str, torch.Tensor]:
    found = {f"sae.{name}": value for name, value in trainer.sae.state_dict().items()}
    for name, parameter in _trained(trainer):
        found |= {f"adam.{name}.{moment}": trainer.optimizer.state[parameter][moment] for moment in MOMENTS}
    return found | {f"trainer.{name}": getattr(trainer, name) for name in COUNTERS}


def _shapes(trainer: SAETrainer) -> dict[str, tuple[int, ...]]:
    found = {f"sae.{name}": tuple(value.shape) for name, value in trainer.sae.state_dict().items()}
    for name, parameter in _trained(trainer):
        found |= {
            f"adam.{name}.{moment}": () if moment == "step" else tuple(parameter.shape) for moment in MOMENTS
        }
    return found | {f"trainer.{name}": tuple(getattr(trainer, name).shape) for name in COUNTERS}


def _apply(trainer: SAETrainer, state: dict, tensors: dict[str, torch.Tensor]) -> None:
    trainer.sae.load_state_dict({name: tensors[f"sae.{name}"] for name in trainer.sae.state_dict()})
    for name, parameter in _trained(trainer):
        kept = {"step": tensors[f"adam.{name}.step"]}
        for moment in MOMENTS[1:]:  # in the memory layout of the parameter
            kept[moment] = torch.empty_like(parameter, requires_grad=False).copy_(
                tensors[f"adam.{name}.{moment}"]
            )
        trainer.optimizer.state[parameter] = kept
    for name in COUNTERS:
        setattr(trainer, name, tensors[f"trainer.{name}"].to(trainer.cfg.device))
    for name in NUMBERS:
        setattr(trainer, name, state["numbers"][name])
    trainer.lr_scheduler.load_state_dict(state["lr_scheduler"])
    for group, rate in zip(trainer.optimizer.param_groups, state["learning_rates"], strict=True):
        group["lr"] = rate
    for name, scheduler in trainer.coefficient_schedulers.items():
        scheduler.load_state_dict(state["coefficients"][name])
