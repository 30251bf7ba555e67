"""A small random bridge."""

import torch
from transformer_lens.model_bridge import TransformerBridge


def native_bridge():
    torch.manual_seed(0)
    made = TransformerBridge.boot_native(
        dict(
            d_model=12, d_head=4, n_heads=3, n_layers=3, n_ctx=16, d_vocab=17, d_mlp=20, act_fn="gelu", seed=0
        ),
        device="cpu",
    )
    for parameter in made.parameters():
        parameter.data.normal_(std=0.3)
    return made


def hooks_of(model) -> int:
    return sum(len(point.fwd_hooks) + len(point.bwd_hooks) for point in model.hook_dict.values())
