"""Forward passes that stop or start in the middle: blocks whose result is not asked for, or is given, do not
run.

TransformerLens' bridge leaves the loop over blocks to Hugging Face and has no `start_at_layer`. Here the
skipped blocks hand on what they get and the last of them hands on the stream that is given, so everything
around the blocks (masks, positions, rotary embeddings, the final norm) stays the model's own. Exact: tested
on every family.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from emocircuits.names import blocks_before
from emocircuits.passes.hooks import Hook, hook_points, hooked, output_of


@torch.no_grad()
def stream_at(
    model: Any,
    tokens: Int[Tensor, "prompt pos"],
    site: str,
    *,
    hooks: Sequence[tuple[str, Hook]] = (),
) -> Float[Tensor, "prompt pos d_model"]:
    """The residual stream at a site; the blocks after it do not run.

    Args:
        model: any TransformerLens object.
        tokens: prompts.
        site: `blocks.{n}.hook_resid_pre` or `hook_resid_post`.
        hooks: further forward hooks, at this site or before it.

    Raises:
        UserError: a site that is not the residual stream between blocks.
    """
    stop = blocks_before(site)
    with _set(model, hooks):
        if isinstance(model, TransformerBridge):
            return _stream_after(model, tokens, stop)
        return model(tokens, stop_at_layer=stop)


def resume(
    model: Any,
    tokens: Int[Tensor, "prompt pos"],
    site: str,
    stream: Float[Tensor, "prompt pos d_model"],
    *,
    until: str | None = None,
    last: bool = False,
    hooks: Sequence[tuple[str, Hook]] = (),
    past: Any = None,
) -> Float[Tensor, "prompt kept d_out"]:
    """What the model makes of a residual stream: the logits, or the stream at a later site. Gradients reach
    the stream.

    The blocks before the site do not run, nor those after `until`.

    Args:
        model: any TransformerLens object.
        tokens: prompts of the same shape as `stream` (only their length matters).
        site: `blocks.{n}.hook_resid_pre` or `hook_resid_post`.
        stream: what the site holds.
        until: a later site of these kinds whose stream is asked for; None asks for the logits.
        last: only the last position's logits (saves the unembedding of the others).
        hooks: further forward hooks, at later sites.
        past: keys and values of earlier positions (`SharedPrefix.cache`), on a bridge.

    Raises:
        UserError: a site that is not the residual stream between blocks.
    """
    start, end = blocks_before(site), model.cfg.n_layers
    stop = end if until is None else blocks_before(until)
    if until is not None and start == stop:
        return stream
    if isinstance(model, TransformerBridge):
        earlier = {} if past is None else {"past_key_values": past}
        with _given(model, start, stream), _set(model, hooks):
            if until is not None:
                return _stream_after(model, tokens, stop, earlier)
            logits = model(tokens, use_cache=False, **earlier, **({"logits_to_keep": 1} if last else {}))
            return logits[:, -1:] if last else logits
    with _set(model, hooks):
        if until is not None:
            return model(stream, start_at_layer=start, stop_at_layer=stop)
        if last and start < end:
            start, stream = end, model(stream, start_at_layer=start, stop_at_layer=end)
        return model(stream[:, -1:] if last else stream, start_at_layer=start)


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


def _stream_after(
    bridge: TransformerBridge,
    tokens: Int[Tensor, "prompt pos"],
    stop: int,
    earlier: Mapping[str, Any] = MappingProxyType({}),
) -> Float[Tensor, "prompt pos d_model"]:
    """The stream after blocks 0 … `stop` - 1; later blocks do not run."""
    if stop < bridge.cfg.n_layers:
        return bridge(tokens, use_cache=False, stop_at_layer=stop, **earlier)
    # of the plain module: looking up the bridge's hooks costs a fifth of a small model's pass
    with output_of(bridge.blocks[stop - 1]) as streams:
        bridge(tokens, use_cache=False, logits_to_keep=1, **earlier)
    return streams[0]


@contextmanager
def _given(
    bridge: TransformerBridge, start: int, stream: Float[Tensor, "prompt pos d_model"]
) -> Iterator[None]:
    """Block `start`, or the final norm after the last block, reads `stream`; the blocks before do not run."""
    if start:
        with skipped_blocks(bridge, start, stream):
            yield
    else:
        with _set(bridge, [("blocks.0.hook_resid_pre", lambda value, hook: stream)]):
            yield


def _set(model: Any, hooks: Sequence[tuple[str, Hook]]) -> AbstractContextManager[None]:
    return hooked(model, hook_points(model), hooks) if hooks else nullcontext()
