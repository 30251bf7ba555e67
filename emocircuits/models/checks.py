"""Checks made whenever a model is loaded: hook names can hold the wrong tensor, gradients can be missing,
hooks can leak.

How exact numbers have to agree follows from the model itself: the same prompts through plain Hugging Face,
twice, and one of them alone and padded, give logits that differ by rounding. What is asked of the bridge is a
few times that.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.models.language_model import Check, LanguageModel

PROBE_LENGTH = 12
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2}
# some families take the attention softmax in float32 whatever the weights are, at another place in the bridge
# than in Hugging Face's code, so logits in float64 agree to float32 only
LOGIT_TOLERANCE = {**TOLERANCE, torch.float64: 2e-6}
NOISES = 4  # how many times the model's own noise is allowed
MOST_NOISE = {torch.float64: 2e-6, torch.float32: 1e-4, torch.bfloat16: 5e-2}  # more is no rounding
REPEATS = "plain Hugging Face repeats itself"


@dataclass(frozen=True, eq=False)
class PlainLogits:
    """What plain Hugging Face makes of the probe prompts, before the bridge touches the model.

    Attributes:
        logits: of the prompts.
        noise: the largest difference between logits that should be the same, relative to the largest logit.
    """

    logits: Float[Tensor, "prompt pos d_vocab"]
    noise: float

    @classmethod
    @torch.no_grad()
    def of(cls, hf_model: Any, tokens: Int[Tensor, "prompt pos"]) -> "PlainLogits":
        """Runs the prompts twice, and the first half of the last one alone."""
        first, again = hf_model(tokens).logits, hf_model(tokens).logits
        alone = hf_model(_short(tokens)).logits
        return cls(first, max(_difference(again, first), _difference(first[1:, : alone.shape[1]], alone)))

    def allows(self, tolerance: float) -> float:
        """A tolerance, or where the model's own noise is larger a few times that."""
        return max(tolerance, NOISES * self.noise)


def probe_tokens(d_vocab: int, device: str = "cpu") -> Int[Tensor, "prompt pos"]:
    """Two fixed pseudo-random prompts."""
    source = torch.Generator().manual_seed(0)
    return torch.randint(0, d_vocab, (2, PROBE_LENGTH), generator=source).to(device)


def run_checks(
    model: LanguageModel, tokens: Int[Tensor, "prompt pos"], reference: PlainLogits
) -> tuple[Check, ...]:
    """All checks.

    Args:
        model: the loaded model.
        tokens: probe prompts.
        reference: what Hugging Face makes of these prompts.
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
        Check(
            REPEATS,
            reference.noise <= MOST_NOISE[logits.dtype],
            reference.noise,
            "logits of the same prompt, twice, and alone and padded, differ by this share of the largest",
        ),
        Check("hooks exist", not missing, len(missing), f"{missing[0]} never fired" if missing else ""),
    ]
    if not missing:
        results.append(_residual_identity(model, seen))
    results.append(_equal("logits equal Hugging Face's", logits, reference.logits, reference))
    results.append(_gradients(model, tokens))
    results.append(_hook_liveness(model, tokens, reference))
    with torch.no_grad():
        results.append(_equal("hooks gone afterwards", model.bridge(tokens), logits))
    results.append(_padding(model, tokens, logits, reference))
    results.append(_single_bos(model))
    if getattr(model.tokenizer, "chat_template", None):
        results.append(_chat_tokens(model))
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


def _hook_liveness(model: LanguageModel, tokens: Tensor, reference: PlainLogits) -> Check:
    """An edit at every site changes the logits: one pass, in which each site edits a copy of the prompt of
    its own.
    """
    source = torch.Generator().manual_seed(1)
    copies = tokens[:1].repeat(len(model.sites) + 1, 1)  # the last one is left as it is
    # a constant vector would be invisible to LayerNorm
    push = torch.randn(model.d_model, generator=source)

    def edit(row: int) -> Callable:
        def hook(value: Tensor, hook: object) -> Tensor:
            value = value.clone()
            value[row] += value[row].norm(dim=-1).mean() * push.to(value)
            return value

        return hook

    hooks = [(site, edit(row)) for row, site in enumerate(model.sites)]
    with torch.no_grad(), model.bridge.hooks(fwd_hooks=hooks):
        last = model.bridge(copies, logits_to_keep=1)[:, -1]
    changes = [_difference(row, last[-1]) for row in last[:-1]]
    smallest = min(changes)
    return Check(
        "hook liveness",
        smallest > reference.allows(TOLERANCE[last.dtype]),
        smallest,
        f"smallest change of the logits, from {model.sites[changes.index(smallest)]}",
    )


def _padding(model: LanguageModel, tokens: Tensor, logits: Tensor, reference: PlainLogits) -> Check:
    """Texts of unequal length go through padded on the right: a text's logits must be those it has alone."""
    with torch.no_grad():
        alone = model.bridge(_short(tokens))
    return _equal("padding on the right changes nothing", logits[1:, : alone.shape[1]], alone, reference)


def _short(tokens: Int[Tensor, "prompt pos"]) -> Int[Tensor, "one half"]:
    return tokens[1:, : tokens.shape[1] // 2]


def _single_bos(model: LanguageModel) -> Check:
    ids = model.encode("The day was long")
    count = sum(index == model.tokenizer.bos_token_id for index in ids)
    expected = int(model.bos_id is not None)
    right = count == expected and (not expected or ids[0] == model.bos_id)
    return Check("single BOS", right, count, f"{count} BOS tokens, expected {expected}")


def _chat_tokens(model: LanguageModel) -> Check:
    chat = [{"role": "user", "content": "The day was long"}]
    right = model.tokenizer.apply_chat_template(
        chat, tokenize=True, add_generation_prompt=True, return_dict=False
    )
    same = model.encode(model.chat_text(chat)) == list(right)
    return Check("tokens of a chat are its template's", same, int(not same), "one turn of a user")


def _frozen(model: LanguageModel) -> Check:
    loose = [
        name for name, parameter in model.bridge.original_model.named_parameters() if parameter.requires_grad
    ]
    return Check("parameters frozen", not loose, len(loose), f"{loose[0]} takes gradients" if loose else "")


def _equal(name: str, values: Tensor, expected: Tensor, reference: PlainLogits | None = None) -> Check:
    """Whether logits are the same: up to the model's own noise, or exactly."""
    value = _difference(values, expected)
    allowed = 0.0 if reference is None else reference.allows(LOGIT_TOLERANCE[values.dtype])
    return Check(
        name,
        value <= allowed,
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
