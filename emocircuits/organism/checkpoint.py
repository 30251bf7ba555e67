"""A training run's state in one safetensors file: weights, optimiser moments, and where the run stands."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save
from transformers import LlamaForCausalLM

from emocircuits.errors import UserError
from emocircuits.io.atomic import write_bytes


@dataclass
class Checkpoint:
    """Where a training run stands."""

    settings: dict
    seed: int
    step: int = 0
    chunk: int = 0
    inside: int = 0
    tokens: int = 0
    documents: int = 0
    seconds: float = 0.0
    losses: list[tuple[int, int, float, float]] = field(default_factory=list)

    def summary(self) -> str:
        """The numbers of the run as JSON text, without the curve."""
        kept = {key: value for key, value in vars(self).items() if key not in ("losses", "chunk", "inside")}
        return json.dumps(kept, indent=1) + "\n"


def save_checkpoint(
    path: Path, model: LlamaForCausalLM, optimiser: torch.optim.Optimizer, state: Checkpoint
) -> None:
    """Writes a checkpoint, atomically."""
    tensors = {f"model.{name}": value.detach().contiguous() for name, value in model.named_parameters()}
    for name, value in model.named_parameters():
        for key, moment in optimiser.state[value].items():
            tensors[f"optimiser.{key}.{name}"] = moment.detach().contiguous()
    write_bytes(path, save(tensors, {"state": json.dumps(vars(state))}))


def load_checkpoint(
    path: Path, model: LlamaForCausalLM, optimiser: torch.optim.Optimizer, settings: dict, seed: int
) -> Checkpoint:
    """Puts a checkpoint's weights and moments into model and optimiser and returns where the run stood.

    Raises:
        UserError: the checkpoint belongs to a run with other settings, or is damaged.
    """
    try:
        with safetensors.safe_open(path, "pt") as handle:
            state = Checkpoint(**json.loads(handle.metadata()["state"]))
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"checkpoint {path} cannot be read: {error}", cure="delete it or start without resuming"
        ) from None
    if (state.settings, state.seed) != (settings, seed):
        raise UserError(
            f"checkpoint {path} belongs to a run with other settings", cure="choose another directory"
        )
    state.losses = [tuple(row) for row in state.losses]
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(tensors[f"model.{name}"])
            optimiser.state[value] = {
                key: tensors[f"optimiser.{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
            }
    return state
