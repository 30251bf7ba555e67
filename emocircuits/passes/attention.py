"""Attention whose patterns are never made: for passes that read the streams alone and whose prompts are long.

A bridge computes scores and patterns, positions^2 numbers per head, so that hooks can read them. Where
nothing reads them the same attention comes out of PyTorch's `scaled_dot_product_attention`, whose memory
grows with the positions, not with their square, in the backward pass too (Dao et al. 2022, arXiv 2205.14135).
The Hugging Face module inside the bridge does the rest, as it does for any other attention function. That
both ways agree is checked on a few tokens whenever the way is taken.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch.nn.functional import scaled_dot_product_attention
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.generalized_components.attention import AttentionBridge
from transformers import AttentionInterface

from emocircuits.names import residual_site
from emocircuits.passes.hooks import recorded
from emocircuits.passes.recompute import pattern_bytes

NAME = "emocircuits_fused"
SMALL_BYTES = 64 << 20  # patterns of one prompt in all blocks; below, making them costs less than the probe
CHUNK = 256
PROBE_LENGTH = 24
# some families take the softmax in float32 whatever the weights are
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-5}
COARSE = 5e-2  # of other types, in which both ways are that far from exact
UNKNOWN = ("softcap", "s_aux", "sinks", "position_bias")


def _attend(
    module: Any,
    query: Float[torch.Tensor, "prompt head pos d_head"],
    key: Float[torch.Tensor, "prompt kv_head pos d_head"],
    value: Float[torch.Tensor, "prompt kv_head pos d_head"],
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[Float[torch.Tensor, "prompt pos head d_head"], None]:
    """Causal attention as Hugging Face's modules ask for it, whole or within a window of `sliding_window`
    keys.
    """
    asked = [name for name in UNKNOWN if options.get(name) is not None]
    plain = attention_mask is None and not options.get("dropout") and options.get("is_causal") is not False
    if asked or not plain or key.shape[2] != query.shape[2]:
        raise NotImplementedError(f"fused attention with {asked or 'a mask, dropout or a cache'}")
    scaling, sliding_window = options.get("scaling"), options.get("sliding_window")
    groups = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(groups, dim=1) if groups > 1 else part for part in (key, value))
    if sliding_window is None or sliding_window >= query.shape[2]:
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
    else:
        mixed = _in_window(query, key, value, sliding_window, scaling)
    return mixed.transpose(1, 2).contiguous(), None


def _in_window(
    query: Float[torch.Tensor, "prompt head pos d_head"],
    key: Float[torch.Tensor, "prompt head pos d_head"],
    value: Float[torch.Tensor, "prompt head pos d_head"],
    window: int,
    scaling: float | None,
) -> Float[torch.Tensor, "prompt head pos d_head"]:
    """Some hundred queries at a time with the keys that any of them sees; all share one mask."""
    band = query.new_zeros(CHUNK, CHUNK + window - 1)
    band.masked_fill_(
        band.new_ones(band.shape, dtype=torch.bool).triu().tril(window - 1).logical_not_(), -torch.inf
    )
    length, parts = query.shape[2], []
    for start in range(0, length, CHUNK):
        end, before = min(start + CHUNK, length), start - window + 1
        first = max(before, 0)
        seen, mask = slice(first, end), band[: end - start, first - before : end - before]
        parts.append(
            scaled_dot_product_attention(
                query[:, :, start:end], key[:, :, seen], value[:, :, seen], attn_mask=mask, scale=scaling
            )
        )
    return torch.cat(parts, dim=2)


AttentionInterface.register(NAME, _attend)


@contextmanager
def fused_attention(
    model: Any, tokens: Int[torch.Tensor, "prompt pos"], *, wanted: bool = True
) -> Iterator[bool]:
    """Inside, attention is computed without patterns where those of one prompt are large and the model gives
    the same without.

    Where they are small, a hook reads or edits something inside attention, the model is no bridge, its
    attention is of another kind (soft caps, sinks), or a probe gives other streams or logits, nothing is
    changed. Yields whether attention is fused.

    Args:
        model: any TransformerLens object.
        tokens: the prompts of one pass.
        wanted: False changes nothing; a context around this one stays as it is.
    """
    if _is_fused(model):  # by a context around this one
        yield True
        return
    large = wanted and pattern_bytes(model, tokens[:1]) > SMALL_BYTES
    if not (large and can_fuse(model, tokens)):
        yield False
        return
    with fused(model):
        yield True


def fuses(model: Any) -> bool:
    """`can_fuse` on tokens of its own."""
    probe = torch.arange(PROBE_LENGTH, device=model.cfg.device)[None] % model.cfg.d_vocab
    return can_fuse(model, probe)


def can_fuse(model: Any, tokens: Int[torch.Tensor, "prompt pos"]) -> bool:
    """Whether the model gives the same without patterns, and no hook reads or edits something inside
    attention; a few of the tokens are run both ways.
    """
    return _can_be(model) and _agrees(model, tokens[:1, :PROBE_LENGTH])


def _is_fused(model: Any) -> bool:
    return isinstance(model, TransformerBridge) and model.original_model.config._attn_implementation == NAME


def _can_be(model: Any) -> bool:
    """Whether all blocks have Hugging Face's attention of a known kind inside the bridge's, and no hook
    inside.
    """
    if not isinstance(model, TransformerBridge):
        return False
    whole = model.original_model
    if not (getattr(whole, "_supports_sdpa", False) and getattr(whole, "_supports_flash_attn", False)):
        return False
    parts = [getattr(block, "attn", None) for block in model.blocks]
    return all(
        isinstance(part, AttentionBridge)
        and "forward" not in vars(part)
        and hasattr(part.original_component, "config")
        and not _hooked_inside(part)
        for part in parts
    )


def _hooked_inside(attention: AttentionBridge) -> bool:
    ends = (attention.hook_in, attention.hook_out)
    return any(
        part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
        for part in attention.modules()
        if part not in ends
    )


@torch.no_grad()
def _agrees(model: Any, tokens: Int[torch.Tensor, "prompt pos"]) -> bool:
    """Whether streams and logits of a few tokens are the same both ways; the hooks that are set are not
    called.
    """
    with _silent(model):
        usual = _streams(model, tokens)
        try:
            with fused(model):
                without = _streams(model, tokens)
        except Exception:  # whatever keeps a model from running this way, it runs the usual way
            return False
    return all(
        float((eager - stream).abs().max()) <= TOLERANCE.get(eager.dtype, COARSE) * float(eager.abs().max())
        for eager, stream in zip(usual, without, strict=True)
    )


def _streams(model: Any, tokens: Int[torch.Tensor, "prompt pos"]) -> list[torch.Tensor]:
    """The stream after every block, and the logits."""
    sites = [residual_site(layer) for layer in range(model.cfg.n_layers)]
    with recorded(model, sites) as streams:
        logits = model(tokens)
    return [*(streams[site] for site in sites), logits]


@contextmanager
def _silent(model: Any) -> Iterator[None]:
    """Inside, the hooks that are set are not called: they may count, record or expect other tokens."""
    held = [
        (point._forward_hooks, dict(point._forward_hooks))
        for point in model.modules()
        if isinstance(point, HookPoint)
    ]
    for hooks, _ in held:
        hooks.clear()
    try:
        yield
    finally:
        for hooks, before in held:
            hooks.update(before)


@contextmanager
def fused(model: Any) -> Iterator[None]:
    """Inside, every block of a model that `can_fuse` has Hugging Face's attention, which calls `_attend`."""
    parts = [block.attn for block in model.blocks]
    configs = [model.original_model.config, *(part.original_component.config for part in parts)]
    before = [config._attn_implementation for config in configs]
    try:
        for config in configs:
            config._attn_implementation = NAME
        for part in parts:
            # `part.forward = …` would reach the Hugging Face module; the instance dictionary is what
            # `__call__` reads
            vars(part)["forward"] = AttentionBridge.forward.__get__(part)
        yield
    finally:
        for part in parts:
            vars(part).pop("forward", None)
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name
