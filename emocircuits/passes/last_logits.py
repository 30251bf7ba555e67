"""A forward pass that unembeds the last position alone.

With a small vocabulary the logits of all positions cost as much as a block or two, with a large one as much
as the whole model.
"""

import inspect
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge


def last_logits(model: Any, tokens: Int[Tensor, "prompt pos"]) -> Float[Tensor, "prompt kept d_vocab"]:
    """The logits of the last position, or of all where the model knows no shorter way; hooks run as in any
    pass.

    Args:
        model: any TransformerLens object.
        tokens: prompts.
    """
    if not isinstance(model, TransformerBridge):
        layers = model.cfg.n_layers
        return model(model(tokens, stop_at_layer=layers)[:, -1:], start_at_layer=layers)
    if "logits_to_keep" in inspect.signature(model.original_model.forward).parameters:
        return model(tokens, logits_to_keep=1)
    return model(tokens)
