"""Component attribution of a decoder in plain Hugging Face, with nothing of ours: hooks and one backward.

    effect of a part = sum over positions of < its output's clean - corrupt, gradient of the metric there >,
    gradient on the corrupt run

Parts are the embedding, each head (the slice of `o_proj`'s input that it fills: a linear map's input and
output give the same product) and each MLP.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor


def plain_effects(
    network: Any, clean: Tensor, corrupt: Tensor, metric: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    """Node -> effect on one prompt pair.

    Args:
        network: a `LlamaForCausalLM`, `Qwen2ForCausalLM` or the like.
        clean, corrupt: token ids `(1, pos)`.
        metric: logits -> one value.
    """
    seen: dict[str, Tensor] = {}
    body = network.model
    handles = [body.embed_tokens.register_forward_hook(_kept(seen, "embed"))]
    for number, layer in enumerate(body.layers):
        handles.append(layer.self_attn.o_proj.register_forward_pre_hook(_kept_input(seen, f"a{number}")))
        handles.append(layer.mlp.register_forward_hook(_kept(seen, f"m{number}")))
    try:
        with torch.no_grad():
            network(clean)
        before = {name: value.detach() for name, value in seen.items()}
        seen.clear()
        value = metric(network(corrupt).logits).sum()
        gradients = torch.autograd.grad(value, list(seen.values()))
    finally:
        for handle in handles:
            handle.remove()
    heads = network.config.num_attention_heads
    found: dict[str, float] = {}
    for (name, now), gradient in zip(seen.items(), gradients, strict=True):
        product = ((before[name] - now.detach()) * gradient).double()
        if name.startswith("a"):
            for head, share in enumerate(product.view(*product.shape[:-1], heads, -1).sum((0, 1, 3))):
                found[f"{name}.h{head}"] = float(share)
        else:
            found[name] = float(product.sum())
    return found


def largest_gap(found: dict[str, float], nodes: tuple[str, ...], effects: np.ndarray) -> tuple[float, int]:
    """Largest difference as a share of the largest effect, and of how many nodes."""
    common = [place for place, node in enumerate(nodes) if node in found]
    ours = effects[common]
    theirs = np.array([found[nodes[place]] for place in common])
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max()), len(common)


def _kept(seen: dict[str, Tensor], name: str) -> Callable[..., Tensor]:
    def hook(module: Any, arguments: Any, output: Any) -> Tensor:
        value = output[0] if isinstance(output, tuple) else output
        if not value.requires_grad:
            value = value.detach().requires_grad_(torch.is_grad_enabled())
        seen[name] = value
        return value

    return hook


def _kept_input(seen: dict[str, Tensor], name: str) -> Callable[..., Any]:
    def hook(module: Any, arguments: Any) -> Any:
        value = arguments[0]
        if not value.requires_grad:
            value = value.detach().requires_grad_(torch.is_grad_enabled())
        seen[name] = value
        return (value, *arguments[1:])

    return hook
