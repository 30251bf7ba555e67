"""Forward passes that start in the middle: the blocks before a site are skipped and its residual stream is
given.

TransformerLens' bridge leaves the loop over blocks to Hugging Face and has no `start_at_layer`. Here the
skipped blocks hand on what they get, and the residual stream after block `layer` is put in by a hook, so
everything around the blocks (masks, positions, rotary embeddings, the final norm) stays the model's own.
Exact: tested on every family.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from emocircuits.names import layer_of, residual_site


@contextmanager
def skipped_blocks(
    model: Any, before: int, stream: Float[Tensor, "prompt pos d_model"] | None = None
) -> Iterator[None]:
    """Blocks 0 … `before` - 1 hand on their input inside this context, the last of them `stream` where one is
    given.
    """
    blocks = [vars(model.blocks[layer]) for layer in range(before)]
    held = [block.get("forward") for block in blocks]
    for number, block in enumerate(blocks):
        given = stream if number == before - 1 else None
        # `block.forward = …` would reach the wrapped Hugging Face block; the instance dictionary is what
        # `__call__` reads
        block["forward"] = lambda hidden, *args, given=given, **kwargs: hidden if given is None else given
    try:
        yield
    finally:
        for block, forward in zip(blocks, held, strict=True):
            if forward is None:
                block.pop("forward", None)
            else:  # a context around this one recomputes blocks
                block["forward"] = forward


@torch.no_grad()
def residual_at(
    bridge: TransformerBridge, tokens: Int[Tensor, "prompt pos"], site: str
) -> Float[Tensor, "prompt pos d_model"]:
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
    """Logits of a forward pass whose residual stream at `site` is `residual`; the blocks before it do not
    run.

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
    with (
        skipped_blocks(bridge, layer + 1 if following else layer),
        bridge.hooks(fwd_hooks=[(entry, enter), *(hooks or [])]),
    ):
        return bridge(tokens, use_cache=False, **keep)


def run_block(
    model: object,
    layer: int,
    tokens: Int[Tensor, "prompt pos"],
    stream: Float[Tensor, "prompt pos d_model"],
    hooks: list[tuple[str, Callable]],
    *,
    gradient: bool = False,
) -> None:
    """Runs one block alone on a given stream, for what its hooks see.

    Args:
        model: any TransformerLens object.
        layer: the block.
        tokens: prompts of the same shape as `stream` (only their length matters).
        stream: what the block reads.
        hooks: forward hooks in that block.
        gradient: whether what hooks put in stays in the autograd graph.
    """
    with torch.set_grad_enabled(gradient):
        if not isinstance(model, TransformerBridge):
            with model.hooks(fwd_hooks=hooks):
                model(stream, start_at_layer=layer, stop_at_layer=layer + 1)
            return
        last = layer + 1 == model.cfg.n_layers
        limits = {"logits_to_keep": 1} if last else {"stop_at_layer": layer + 1}
        with (
            skipped_blocks(model, layer),
            model.hooks(fwd_hooks=[(f"blocks.{layer}.hook_resid_pre", lambda value, hook: stream), *hooks]),
        ):
            model(tokens, use_cache=False, **limits)


def stream_behind(
    model: Any,
    tokens: Int[Tensor, "prompt pos"],
    start: int,
    stream: Float[Tensor, "prompt pos d_model"],
    stop: int,
) -> Float[Tensor, "prompt pos d_model"]:
    """The residual stream behind blocks `start` … `stop` - 1 when `stream` is what block `start` reads; no
    other block runs.

    Args:
        model: any TransformerLens object.
        tokens: prompts of the same shape as `stream` (only their length matters).
        start, stop: blocks.
        stream: what block `start` reads.
    """
    if start == stop:
        return stream
    if not isinstance(model, TransformerBridge):
        return model(stream, start_at_layer=start, stop_at_layer=stop)
    if stop < model.cfg.n_layers:
        with _entered(model, start, stream):
            return model(tokens, use_cache=False, stop_at_layer=stop)
    kept: list[Tensor] = []
    # a plain module hook: setting up the bridge's own costs as much as a small model's pass
    handle = model.blocks[stop - 1].register_forward_hook(
        lambda module, given, out: kept.append(out[0] if isinstance(out, tuple) else out)
    )
    try:
        with _entered(model, start, stream):
            model(tokens, use_cache=False, logits_to_keep=1)
    finally:
        handle.remove()
    return kept[0]


def logits_behind(
    model: Any, tokens: Int[Tensor, "prompt pos"], stream: Float[Tensor, "prompt pos d_model"]
) -> Float[Tensor, "prompt pos d_vocab"]:
    """The logits that the final norm and the unembedding make of the stream behind the last block."""
    if not isinstance(model, TransformerBridge):
        return model(stream, start_at_layer=model.cfg.n_layers)
    with skipped_blocks(model, model.cfg.n_layers, stream):
        return model(tokens, use_cache=False)


def is_stream(site: str) -> bool:
    """Whether a hook holds the residual stream between blocks, so that a pass may start there."""
    return site.endswith(("hook_resid_post", "hook_resid_pre"))


def blocks_before(site: str) -> int:
    """How many blocks lie before a site that `is_stream`."""
    return layer_of(site) + int(site.endswith("hook_resid_post"))


def logits_given(
    model: Any,
    tokens: Int[Tensor, "prompt pos"],
    site: str,
    stream: Float[Tensor, "prompt pos d_model"],
    *,
    last: bool = False,
) -> Float[Tensor, "prompt kept d_vocab"]:
    """The logits when the residual stream at a site (`is_stream`) is `stream`; the blocks before it do not
    run.

    Args:
        model: any TransformerLens object.
        tokens: prompts of the same shape as `stream` (only their length matters).
        site: `blocks.{n}.hook_resid_post` or `hook_resid_pre`.
        stream: what it holds.
        last: whether only the last position's logits are wanted.
    """
    start = blocks_before(site)
    behind = stream_behind(model, tokens, start, stream, model.cfg.n_layers)
    return (
        logits_behind(model, tokens[:, -1:], behind[:, -1:]) if last else logits_behind(model, tokens, behind)
    )


@contextmanager
def _entered(
    bridge: TransformerBridge, start: int, stream: Float[Tensor, "prompt pos d_model"]
) -> Iterator[None]:
    """Block `start` reads `stream`, the blocks before it do not run."""
    if start:
        with skipped_blocks(bridge, start, stream):
            yield
    else:
        with bridge.hooks(fwd_hooks=[("blocks.0.hook_resid_pre", lambda value, hook: stream)]):
            yield
