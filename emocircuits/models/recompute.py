"""Backward passes that run each block once more instead of keeping what it computed: for prompts whose attention does not fit.

Attention patterns take prompts * heads * positions^2 numbers per block, several times over. Without them only the streams between
the blocks are kept, and one block at a time is computed again (Chen et al. 2016, arXiv 1604.06174).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch.utils.checkpoint import checkpoint
from transformers import Cache

KEPT_BYTES = 2 << 30
COPIES = 4  # scores, masked scores, pattern, and what softmax keeps


def pattern_bytes(model: Any, tokens: Int[torch.Tensor, "prompt pos"]) -> int:
    """What the attention of all blocks keeps for a backward pass over these prompts."""
    size = torch.finfo(next(model.parameters()).dtype).bits // 8
    return COPIES * size * model.cfg.n_layers * model.cfg.n_heads * tokens.shape[0] * tokens.shape[1] ** 2


@contextmanager
def recomputed_blocks(model: Any, tokens: Int[torch.Tensor, "prompt pos"], allowed: bool = True) -> Iterator[bool]:
    """Inside, blocks are run once more in the backward pass where their attention would take more than two gigabytes.

    Hooks inside a block are called once more, too. Yields whether that is so.
    """
    again = allowed and pattern_bytes(model, tokens) > KEPT_BYTES
    if not again:
        yield False
        return
    for block in model.blocks:
        # `block.forward = …` would reach a wrapped Hugging Face block; the instance dictionary is what `__call__` reads
        block.__dict__["forward"] = _checkpointed(block.forward)
    try:
        yield True
    finally:
        for block in model.blocks:
            block.__dict__.pop("forward", None)


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*given: Any, **options: Any) -> Any:
        # a cache of keys would grow once more when the block is run again
        given = tuple(None if isinstance(value, Cache) else value for value in given)
        without = {name: None if isinstance(value, Cache) else value for name, value in options.items()}
        if "use_cache" in without:
            without["use_cache"] = False
        return checkpoint(forward, *given, use_reentrant=False, **without)

    return run
