"""What both prompts of a pair begin with: its positions run once, and later passes run the rest alone.

In a causal model nothing before the first token that differs depends on what comes after it, so there the
clean run, the corrupt run and every run between them are the same. Later positions read it through its keys
and values alone, which are kept as Hugging Face keeps them when it generates text.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from emocircuits.passes.hooks import hook_points
from emocircuits.passes.prompt_pairs import PairBatch

LEAST = 4  # positions, below which nothing is saved
TOLERANCE = 1e-4
ERRORS = (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True, eq=False)
class SharedPrefix:
    """Keys and values of the first positions of a batch.

    Attributes:
        length: how many positions.
        layers: keys and values of every block.
        config: of the Hugging Face model.
    """

    length: int
    layers: tuple[
        tuple[Float[Tensor, "prompt head pos d_head"], Float[Tensor, "prompt head pos d_value"]], ...
    ]
    config: Any

    @classmethod
    @torch.no_grad()
    def of(cls, model: Any, batch: PairBatch) -> "SharedPrefix | None":
        """Runs what the prompts share. None where that is too little, where the model has hooks, or does not
        give the same with kept keys and values, which is tried on the first prompt.
        """
        length = shared_length(batch)
        if length < LEAST or not isinstance(model, TransformerBridge) or _watched(model):
            return None
        try:
            cache = DynamicCache(config=model.original_model.config)
            model(batch.clean[:, :length], past_key_values=cache, use_cache=True)
            if not all(type(layer) is DynamicLayer for layer in cache.layers):
                return None
            layers = tuple((layer.keys, layer.values) for layer in cache.layers)
            prefix = cls(length, layers, model.original_model.config)
            one = torch.zeros(1, dtype=torch.long, device=batch.clean.device)
            rest = model(batch.clean[:1, length:], past_key_values=prefix.cache(one), use_cache=False)
        except ERRORS:  # a model without this kind of cache
            return None
        whole = model(batch.clean[:1], use_cache=False)[:, length:]
        gap, scale = float((rest - whole).abs().max()), float(whole.abs().max())
        return prefix if rest.shape == whole.shape and gap <= TOLERANCE * max(1.0, scale) else None

    def cache(self, prompts: Int[Tensor, "row"], first_block: int = 0) -> DynamicCache:
        """Keys and values for a pass over some prompts of the batch, which adds its own to them.

        Args:
            prompts: the place in the batch of each row.
            first_block: the first block that runs.
        """
        cache = DynamicCache(config=self.config)
        for number, (keys, values) in enumerate(self.layers):
            if number == 0 or number >= first_block:  # the first one says how many positions there are
                cache.update(keys[prompts], values[prompts], number)
        return cache


def shared_length(batch: PairBatch) -> int:
    """How many first tokens both sides of all pairs have in common; at least the last one is left out."""
    if batch.reference is not None:
        return 0
    same = (batch.clean == batch.corrupt).all(0).long().cumprod(0)
    return min(int(same.sum()), batch.clean.shape[1] - 1)


def _watched(model: TransformerBridge) -> bool:
    return any(point.fwd_hooks or point.bwd_hooks for point in hook_points(model).values())
