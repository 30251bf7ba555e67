"""Backward passes that run each block once more instead of keeping what it computed: for prompts whose
attention does not fit.

Attention patterns take prompts * heads * positions^2 numbers per block, several times over. Without them only
the streams between the blocks are kept, and one block at a time is computed again (Chen et al. 2016, arXiv
1604.06174).
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
# next to the patterns: norms, queries, keys, values, sums; values before and after the MLP's activation
STREAMS, INNER = 12, 3


def pattern_bytes(model: Any, tokens: Int[torch.Tensor, "prompt pos"]) -> int:
    """What the attention of all blocks keeps for a backward pass over these prompts."""
    return (
        COPIES
        * _size(model)
        * model.cfg.n_layers
        * model.cfg.n_heads
        * tokens.shape[0]
        * tokens.shape[1] ** 2
    )


def stream_bytes(model: Any, tokens: Int[torch.Tensor, "prompt pos"]) -> int:
    """What all blocks keep next to their patterns, about."""
    width = STREAMS * model.cfg.d_model + INNER * (model.cfg.d_mlp or 4 * model.cfg.d_model)
    return _size(model) * model.cfg.n_layers * width * tokens.numel()


def copies_at_once(model: Any, tokens: Int[torch.Tensor, "prompt pos"], max_tokens: int) -> int:
    """How many copies of some prompts one backward pass takes: at least one, and no more than it can keep
    in two gigabytes.
    """
    fit = KEPT_BYTES // max(1, pattern_bytes(model, tokens) + stream_bytes(model, tokens))
    return max(1, min(max_tokens // tokens.numel(), fit))


def _size(model: Any) -> int:
    return torch.finfo(next(model.parameters()).dtype).bits // 8


@contextmanager
def recomputed_blocks(
    model: Any,
    tokens: Int[torch.Tensor, "prompt pos"],
    *,
    fused: bool = False,
) -> Iterator[bool]:
    """Inside, blocks are run once more in the backward pass where what they would keep takes more than two
    gigabytes.

    Hooks inside a block are called once more, too. Yields whether that is so.

    Args:
        model: any TransformerLens object.
        tokens: the prompts of one pass.
        fused: whether attention makes no patterns (`models.fused_attention`), so that only the rest counts.
    """
    large = pattern_bytes(model, tokens) > KEPT_BYTES
    if not large or (fused and stream_bytes(model, tokens) <= KEPT_BYTES):
        yield False
        return
    for block in model.blocks:
        # `block.forward = …` would reach a wrapped Hugging Face block; the instance dictionary is what
        # `__call__` reads
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
