"""Replicas of a model for threads that work side by side: the same weights in memory, hooks of their own."""

import copy
from itertools import chain
from typing import Any

import torch
from torch import Tensor


def replicas(model: Any, count: int | None = None) -> list[Any]:
    """Copies of a model that share its weights, so that passes with hooks in one thread do not meet those of
    another; where one is enough, the model itself.

    Args:
        model: any TransformerLens object; hooks that are set on it are set on the copies too.
        count: how many; by default as many as torch has threads, and one on other devices than the processor.
    """
    tensors = list(chain(model.parameters(), model.buffers()))
    if count is None:
        count = torch.get_num_threads() if all(one.device.type == "cpu" for one in tensors) else 1
    if count == 1:
        return [model]
    # what modules noted in their last pass, perhaps inside an autograd graph, is no part of the model
    noted = [
        value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)
    ]
    shared = {id(one): one for one in (*tensors, *noted, getattr(model, "tokenizer", None))}
    return [copy.deepcopy(model, dict(shared)) for _ in range(count)]
