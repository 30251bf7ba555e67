"""What several runs begin with: its positions run once, and later passes run the rest alone.

In a causal model nothing before the first position that differs depends on what comes after it. So the clean
run, the corrupt run and every run between them are the same before the first token that differs, and a run
with a patch is the run without it before the first position that the patch changes. Later positions read
earlier ones through their keys and values alone, which are kept as Hugging Face keeps them when it generates
text.
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
    """Keys and values of the first positions of some prompts.

    Attributes:
        length: how many positions they begin with; the next one may be the first that is run.
        layers: keys and values of every block.
        config: of the Hugging Face model.
    """

    length: int
    layers: tuple[
        tuple[Float[Tensor, "prompt head pos d_head"], Float[Tensor, "prompt head pos d_value"]], ...
    ]
    config: Any

    @classmethod
    def of(cls, model: Any, batch: PairBatch) -> "SharedPrefix | None":
        """What both sides of all pairs share. None where that is too little, or see `of_tokens`."""
        length = shared_length(batch)
        return cls.of_tokens(model, batch.clean[:, :length], batch.clean[:1]) if length >= LEAST else None

    @classmethod
    @torch.no_grad()
    def of_tokens(
        cls, model: Any, tokens: Int[Tensor, "prompt pos"], example: Int[Tensor, "1 longer"]
    ) -> "SharedPrefix | None":
        """Runs the first positions of some prompts.

        Args:
            model: any TransformerLens object.
            tokens: the first positions.
            example: the first prompt in full. None is returned where the model does not give the same for it
                with kept keys and values, or has hooks.
        """
        if not isinstance(model, TransformerBridge) or _watched(model):
            return None
        try:
            cache, length = DynamicCache(config=model.original_model.config), tokens.shape[1]
            model(tokens, past_key_values=cache, use_cache=True)
            if not all(type(layer) is DynamicLayer for layer in cache.layers):
                return None
            layers = tuple((layer.keys, layer.values) for layer in cache.layers)
            prefix = cls(length, layers, model.original_model.config)
            one = torch.zeros(1, dtype=torch.long, device=tokens.device)
            rest = model(example[:, length:], past_key_values=prefix.cache(one), use_cache=False)
        except ERRORS:  # a model without this kind of cache
            return None
        whole = model(example, use_cache=False)[:, length:]
        gap, scale = float((rest - whole).abs().max()), float(whole.abs().max())
        return prefix if rest.shape == whole.shape and gap <= TOLERANCE * max(1.0, scale) else None

    @property
    def nbytes(self) -> int:
        """Memory that the keys and values take."""
        return sum(part.nbytes for layer in self.layers for part in layer)

    def cache(
        self, prompts: Int[Tensor, "row"], first_block: int = 0, length: int | None = None
    ) -> DynamicCache:
        """Keys and values for a pass over some of the prompts, which adds its own to them.

        Args:
            prompts: the number of each row's prompt.
            first_block: the first block that runs.
            length: how many of the positions; all by default.
        """
        cache = DynamicCache(config=self.config)
        for number, (keys, values) in enumerate(self.layers):
            if number == 0 or number >= first_block:  # the first one says how many positions there are
                cache.update(keys[prompts, :, :length], values[prompts, :, :length], number)
        return cache


def shared_length(batch: PairBatch) -> int:
    """How many first tokens both sides of all pairs have in common; at least the last one is left out."""
    if batch.reference is not None:
        return 0
    same = (batch.clean == batch.corrupt).all(0).long().cumprod(0)
    return min(int(same.sum()), batch.clean.shape[1] - 1)


def _watched(model: TransformerBridge) -> bool:
    return any(point.fwd_hooks or point.bwd_hooks for point in hook_points(model).values())
