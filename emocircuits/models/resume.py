"""Forward passes that start in the middle: the blocks before a site are skipped and its residual stream is given.

TransformerLens' bridge leaves the loop over blocks to Hugging Face and has no `start_at_layer`. Here the skipped blocks
hand on what they get, and the residual stream after block `layer` is put in by a hook, so everything around the blocks
(masks, positions, rotary embeddings, the final norm) stays the model's own. Exact: tested on every family.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from emocircuits.sites import layer_of, residual_site


@contextmanager
def skipped_blocks(bridge: TransformerBridge, before: int) -> Iterator[None]:
    """Blocks 0 … `before` - 1 hand on their input inside this context."""
    blocks = [bridge.blocks[layer] for layer in range(before)]
    for block in blocks:
        # `block.forward = …` would reach the wrapped Hugging Face block; the instance dictionary is what `__call__` reads
        block.__dict__["forward"] = lambda hidden, *args, **kwargs: hidden
    try:
        yield
    finally:
        for block in blocks:
            block.__dict__.pop("forward", None)


@torch.no_grad()
def residual_at(bridge: TransformerBridge, tokens: Int[Tensor, "prompt pos"], site: str) -> Float[Tensor, "prompt pos d_model"]:
    """The residual stream at a `hook_resid_post` site; the later blocks do not run."""
    kept: list[Tensor] = []

    def keep(value: Tensor, hook: object) -> None:
        kept.append(value.clone())

    last = layer_of(site) + 1
    limits = {"stop_at_layer": last} if last < bridge.cfg.n_layers else {"logits_to_keep": 1}
    with bridge.hooks(fwd_hooks=[(site, keep)]):
        bridge(tokens, use_cache=False, **limits)
    return kept[0]


def logits_from(
    bridge: TransformerBridge,
    tokens: Int[Tensor, "prompt pos"],
    site: str,
    residual: Float[Tensor, "prompt pos d_model"],
    *,
    last_only: bool = True,
    hooks: list[tuple[str, Callable]] | None = None,
) -> Float[Tensor, "prompt kept d_vocab"]:
    """Logits of a forward pass whose residual stream at `site` is `residual`; the blocks before it do not run.

    Args:
        bridge: the model.
        tokens: prompts of the same shape as `residual` (only their length matters).
        site: a `hook_resid_post` site.
        residual: what the stream holds after that block.
        last_only: only the last position's logits (saves the unembedding of the others).
        hooks: further forward hooks, at later sites.
    """
    layer = layer_of(site)
    following = layer + 1 < bridge.cfg.n_layers
    entry = f"blocks.{layer + 1}.hook_resid_pre" if following else residual_site(layer)

    def enter(value: Tensor, hook: object) -> Tensor:
        return residual

    keep = {"logits_to_keep": 1} if last_only else {}
    with skipped_blocks(bridge, layer + 1 if following else layer):
        with bridge.hooks(fwd_hooks=[(entry, enter), *(hooks or [])]):
            return bridge(tokens, use_cache=False, **keep)


@torch.no_grad()
def run_block(
    model: object,
    layer: int,
    tokens: Int[Tensor, "prompt pos"],
    stream: Float[Tensor, "prompt pos d_model"],
    hooks: list[tuple[str, Callable]],
) -> None:
    """Runs one block alone on a given stream, for what its hooks see.

    Args:
        model: any TransformerLens object.
        layer: the block.
        tokens: prompts of the same shape as `stream` (only their length matters).
        stream: what the block reads.
        hooks: forward hooks in that block.
    """
    if not isinstance(model, TransformerBridge):
        with model.hooks(fwd_hooks=hooks):
            model(stream, start_at_layer=layer, stop_at_layer=layer + 1)
        return
    last = layer + 1 == model.cfg.n_layers
    limits = {"logits_to_keep": 1} if last else {"stop_at_layer": layer + 1}
    with skipped_blocks(model, layer):
        with model.hooks(fwd_hooks=[(f"blocks.{layer}.hook_resid_pre", lambda value, hook: stream), *hooks]):
            model(tokens, use_cache=False, **limits)
