"""Checks made whenever a model is loaded: hook names can hold the wrong tensor, gradients can be missing,
hooks can leak.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.models.language_model import Check, LanguageModel

PROBE_LENGTH = 12
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2}
# some families take the attention softmax in float32 whatever the weights are, at another place in the bridge
# than in Hugging Face's code, so logits in float64 agree to float32 only
LOGIT_TOLERANCE = {**TOLERANCE, torch.float64: 2e-6}


def probe_tokens(d_vocab: int, device: str = "cpu") -> Int[Tensor, "prompt pos"]:
    """Two fixed pseudo-random prompts."""
    source = torch.Generator().manual_seed(0)
    return torch.randint(0, d_vocab, (2, PROBE_LENGTH), generator=source).to(device)


def run_checks(
    model: LanguageModel, tokens: Int[Tensor, "prompt pos"], reference: Float[Tensor, "prompt pos d_vocab"]
) -> tuple[Check, ...]:
    """All checks.

    Args:
        model: the loaded model.
        tokens: probe prompts.
        reference: Hugging Face's own logits of these prompts, taken before the bridge touched the model.
    """
    parts = [
        (layer, part)
        for layer in range(model.n_layers)
        for part in ("resid_pre", "attn_out", "mlp_out", "resid_post")
    ]
    names = [f"blocks.{layer}.hook_{part}" for layer, part in parts]
    with torch.no_grad(), _caught(model, names) as seen:
        logits = model.bridge(tokens)
    missing = [name for name in names if name not in seen]
    results = [
        Check("hooks exist", not missing, len(missing), f"{missing[0]} never fired" if missing else "")
    ]
    if not missing:
        results.append(_residual_identity(model, seen))
    results.append(_equal("logits equal Hugging Face's", logits, reference))
    results.append(_gradients(model, tokens))
    results.append(_hook_liveness(model, tokens, logits))
    with torch.no_grad():
        results.append(_equal("hooks gone afterwards", model.bridge(tokens), logits, exact=True))
    results.append(_padding(model, tokens, logits))
    results.append(_single_bos(model))
    results.append(_frozen(model))
    return tuple(results)


def _residual_identity(model: LanguageModel, seen: dict[str, Tensor]) -> Check:
    worst = 0.0
    for layer in range(model.n_layers):
        pre, attn, mlp, post = (
            seen[f"blocks.{layer}.hook_{part}"] for part in ("resid_pre", "attn_out", "mlp_out", "resid_post")
        )
        worst = max(worst, _difference(pre + attn + mlp, post))
    return Check(
        "residual identity",
        worst <= TOLERANCE[post.dtype],
        worst,
        "resid_pre + attn_out + mlp_out = resid_post",
    )


def _gradients(model: LanguageModel, tokens: Tensor) -> Check:
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Callable:
        def hook(value: Tensor, hook: object) -> Tensor:
            value = value if value.requires_grad else value.detach().requires_grad_(True)
            value.retain_grad()
            kept[name] = value
            return value

        return hook

    with torch.enable_grad(), model.bridge.hooks(fwd_hooks=[(site, keep(site)) for site in model.sites]):
        model.bridge(tokens)[:, -1].float().logsumexp(-1).sum().backward()
    absent = [
        site
        for site in model.sites
        if site not in kept or kept[site].grad is None or not bool(kept[site].grad.any())
    ]
    detail = f"no gradient at {absent[0]}" if absent else ""
    return Check("gradients present", not absent, len(absent), detail)


def _hook_liveness(model: LanguageModel, tokens: Tensor, logits: Tensor) -> Check:
    source = torch.Generator().manual_seed(1)
    # a constant vector would be invisible to LayerNorm
    push = torch.randn(model.d_model, generator=source).to(logits)
    smallest, dead = float("inf"), ""
    for site in model.sites:
        with (
            torch.no_grad(),
            model.bridge.hooks(
                fwd_hooks=[(site, lambda value, hook: value + value.norm(dim=-1).mean() * push)]
            ),
        ):
            change = _difference(model.bridge(tokens), logits)
        if change < smallest:
            smallest, dead = change, site
    return Check(
        "hook liveness",
        smallest > TOLERANCE[logits.dtype],
        smallest,
        f"smallest change of the logits, from {dead}",
    )


def _padding(model: LanguageModel, tokens: Tensor, logits: Tensor) -> Check:
    """Texts of unequal length go through padded on the right: a text's logits must be those it has alone."""
    short = tokens[1:, : PROBE_LENGTH // 2]
    with torch.no_grad():
        alone = model.bridge(short)
    return _equal("padding on the right changes nothing", logits[1:, : PROBE_LENGTH // 2], alone)


def _single_bos(model: LanguageModel) -> Check:
    ids = model.encode("The day was long")
    count = sum(index == model.tokenizer.bos_token_id for index in ids)
    expected = int(model.bos_id is not None)
    right = count == expected and (not expected or ids[0] == model.bos_id)
    return Check("single BOS", right, count, f"{count} BOS tokens, expected {expected}")


def _frozen(model: LanguageModel) -> Check:
    loose = [
        name for name, parameter in model.bridge.original_model.named_parameters() if parameter.requires_grad
    ]
    return Check("parameters frozen", not loose, len(loose), f"{loose[0]} takes gradients" if loose else "")


def _equal(name: str, values: Tensor, expected: Tensor, *, exact: bool = False) -> Check:
    value = _difference(values, expected)
    return Check(
        name,
        value <= (0.0 if exact else LOGIT_TOLERANCE[values.dtype]),
        value,
        "largest difference relative to the largest value",
    )


def _difference(values: Tensor, expected: Tensor) -> float:
    scale = max(1.0, float(expected.abs().max()))
    return float((values - expected).abs().max()) / scale


@contextmanager
def _caught(model: LanguageModel, names: list[str]) -> Iterator[dict[str, Tensor]]:
    seen: dict[str, Tensor] = {}

    def catch(name: str) -> Callable:
        def hook(value: Tensor, hook: object) -> None:
            seen[name] = value.detach().clone()

        return hook

    with model.bridge.hooks(fwd_hooks=[(name, catch(name)) for name in names]):
        yield seen
