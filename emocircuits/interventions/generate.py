"""Sample continuations, reproducibly, under whatever interventions surround the call."""

from typing import Any

import torch
from jaxtyping import Int

from emocircuits.models.language_model import check_context


@torch.no_grad()
def sample(
    model: Any,
    tokens: Int[torch.Tensor, "prompt pos"],
    n_tokens: int,
    *,
    seed: int = 0,
    temperature: float | int = 1.0,
    cache: bool = True,
    attention_mask: Int[torch.Tensor, "prompt pos"] | None = None,
) -> Int[torch.Tensor, "prompt new"]:
    """Samples `n_tokens` more tokens for each prompt; the global random state is left as it was.

    Args:
        model: any TransformerLens object.
        tokens: prompts of one length, or padded on the left.
        n_tokens: how many tokens to add.
        seed: seed of the sampling.
        temperature: 0 takes the most likely token.
        cache: whether to use the key-value cache (same tokens, faster).
        attention_mask: 0 where the prompts are padded.

    Returns:
        The new tokens only.
    """
    check_context(tokens.shape[1], int(model.cfg.n_ctx), n_tokens)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        whole = model.generate(
            tokens,
            max_new_tokens=n_tokens,
            do_sample=temperature > 0,
            temperature=temperature or 1.0,
            use_past_kv_cache=cache,
            stop_at_eos=False,
            prepend_bos=False,
            verbose=False,
            return_type="tokens",
            **({} if attention_mask is None else {"attention_mask": attention_mask}),
        )
    return whole[:, tokens.shape[1] :]
