"""How good an SAE is: what it reconstructs, how many features it uses, and what the model loses by it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.errors import Failure, UserError
from emocircuits.sae.geometry import decoder_encoder_cosine
from emocircuits.sae.rows import evenly_spaced

BLOCK = 8192
DENSE = 0.1


@dataclass(frozen=True)
class Reconstruction:
    """Measured on `tokens` rows.

    Attributes:
        l0: mean number of active features (feature_acts other than zero).
        fvu: Σ‖x - x̂‖² / Σ‖x - x̄‖², x̄ the mean of all rows; both sums over the whole set, in float64.
        dead_fraction: share of features that fire on none of the rows.
        dense_fraction: share of features that fire on more than a tenth of them.
        tokens: number of rows.
        shrinkage: √(Σ‖x̂ - b_dec‖² / Σ‖x - b_dec‖²): below √(1 - fvu) means that activations are
            systematically too small.
    """

    l0: float
    fvu: float
    dead_fraction: float
    dense_fraction: float
    tokens: int
    shrinkage: float


@dataclass(frozen=True)
class LossRecovered:
    """Mean next-token cross-entropies in nats with one site untouched, replaced by the reconstruction, its
    mean, or zero.

    Attributes:
        clean, sae, ablated, zeroed: the four.
        kl: mean KL(clean ‖ sae) of the next-token distributions, nats.
        tokens: number of predictions.
    """

    clean: float
    sae: float
    ablated: float
    zeroed: float
    kl: float
    tokens: int

    @property
    def ce_loss_recovered(self) -> float:
        """(ablated - sae) / (ablated - clean): 1 loses nothing, 0 is as bad as the mean."""
        return self._recovered("mean", self.ablated)

    @property
    def ce_loss_recovered_zero(self) -> float:
        """The same against zero, as sae-lens counts: nearer 1, because zero is far from anything the model
        knows.
        """
        return self._recovered("zero", self.zeroed)

    def _recovered(self, name: str, without: float) -> float:
        if without == self.clean:
            raise Failure(
                f"{name} ablation does not change the loss: the share recovered is not defined",
                cure="check that the site belongs to the model",
            )
        return (without - self.sae) / (without - self.clean)


@torch.no_grad()
def reconstruction(
    sae: Any, store: ActivationStore, site: str, rows: Int[np.ndarray, "chosen"]
) -> Reconstruction:
    """L0, FVU, dead and dense fractions of an SAE on rows of a store.

    Raises:
        UserError: no rows, or an SAE of another width.
    """
    if len(rows) == 0:
        raise UserError(f"no rows to measure the SAE at {site} on")
    if sae.cfg.d_in != store.d_model:
        raise UserError(
            f"the SAE for {site} has d_in {sae.cfg.d_in}",
            expected=f"d_model {store.d_model} of {store.path.name}",
        )
    origin = sae.b_dec.detach().double().cpu()  # near the mean: shifting by it costs no precision later
    lost, square, kept, total = 0.0, 0.0, 0.0, torch.zeros(store.d_model, dtype=torch.float64)
    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.int64)
    for _, block in store.blocks(site, rows, size=BLOCK):
        x = torch.from_numpy(block)
        acts = encode_dense(sae, x)
        decoded = sae.decode(acts).float().cpu()
        lost += float((x - decoded).double().square().sum())
        kept += float((decoded.double() - origin).square().sum())
        shifted = x.double() - origin
        square += float(shifted.square().sum())
        total += shifted.sum(0)
        fired += (acts != 0).sum(0).cpu()
    count = len(rows)
    spread = square - float(total.square().sum()) / count
    if not spread > 0:
        raise UserError(f"the activations at {site} do not vary", cure="measure on more rows")
    density = fired.double() / count
    return Reconstruction(
        l0=float(fired.sum()) / count,
        fvu=lost / spread,
        dead_fraction=float((fired == 0).double().mean()),
        dense_fraction=float((density > DENSE).double().mean()),
        tokens=count,
        shrinkage=float(np.sqrt(kept / square)),
    )


@torch.no_grad()
def loss_recovered(
    model: Any,
    sae: Any,
    site: str,
    batches: Iterable[Int[Tensor, "_ _"]],
    mean: Float[np.ndarray, "d_model"],
    *,
    skip_positions: int = 1,
) -> LossRecovered:
    """Cross-entropies with one site left alone, spliced, mean-ablated and zeroed, over the same predictions.

    Args:
        model: any TransformerLens object with `hooks` whose call gives logits.
        sae: the SAE of the site.
        site: hook name.
        batches: token ids; prompts of one batch have equal length, nothing is padded.
        mean: what an ablated position holds (the mean of the site's rows).
        skip_positions: leading positions that stay as they are and whose predictions do not count.
    """
    first = skip_positions
    replacement = torch.from_numpy(np.asarray(mean, dtype=np.float32))
    sums, divergence, count, seen = np.zeros(4), 0.0, 0, 0

    def spliced(value: Tensor, hook: object) -> Tensor:
        nonlocal seen
        seen += 1
        out = value.clone()
        out[:, first:] = sae.decode(encode_dense(sae, value[:, first:].to(sae.W_dec.dtype))).to(value.dtype)
        return out

    def ablated(value: Tensor, hook: object) -> Tensor:
        out = value.clone()
        out[:, first:] = replacement.to(value)
        return out

    def zeroed(value: Tensor, hook: object) -> Tensor:
        out = value.clone()
        out[:, first:] = 0
        return out

    for tokens in batches:
        if tokens.shape[1] < first + 2:
            continue
        clean_log_probs = None
        for place, hooks in enumerate(([], [(site, spliced)], [(site, ablated)], [(site, zeroed)])):
            with model.hooks(fwd_hooks=hooks):
                logits = model(tokens)
            log_probs = logits[:, first:-1].float().log_softmax(-1)
            sums[place] -= float(
                log_probs.gather(-1, tokens[:, first + 1 :, None].to(log_probs.device)).double().sum()
            )
            if place == 0:
                clean_log_probs = log_probs
            elif place == 1:
                divergence += float((clean_log_probs.exp() * (clean_log_probs - log_probs)).double().sum())
        count += tokens[:, first + 1 :].numel()
    if count == 0:
        raise UserError(
            f"no prompt is long enough to measure the loss at {site}", expected=f"at least {first + 2} tokens"
        )
    if seen == 0:
        raise Failure(f"the hook {site} never ran", cure="check that the site belongs to the model")
    clean, with_sae, without, at_zero = (float(value) for value in sums / count)
    return LossRecovered(clean, with_sae, without, at_zero, divergence / count, count)


def equal_length_batches(
    store: ActivationStore, prompts: Int[np.ndarray, "chosen"], *, max_tokens: int = 4096
) -> Iterator[Int[Tensor, "_ _"]]:
    """Token ids of prompts of a store, batched by equal length."""
    lengths, offsets = (store.prompts[name].to_numpy() for name in ("n_tokens", "offset"))
    for length in np.unique(lengths[prompts]):
        same = prompts[lengths[prompts] == length]
        size = max(1, max_tokens // int(length))
        for start in range(0, len(same), size):
            rows = offsets[same[start : start + size], None] + np.arange(length)
            yield torch.from_numpy(store.tokens[rows].astype(np.int64))


def quality_row(
    model: Any,
    sae: Any,
    store: ActivationStore,
    site: str,
    *,
    loss_tokens: int = 20_000,
    max_rows: int = 200_000,
    skip_positions: int = 1,
) -> dict[str, Any]:
    """One row of `saes.csv`: measured on the prompts the SAE did not learn from (split `held_out`), else on
    all.

    Dead and dense fractions are counted on up to `max_rows` evenly spaced rows of the whole store
    (`counted_tokens`), because a rare feature may be silent on few rows; the rest on held-out rows
    (`tokens`).

    Args:
        model: any TransformerLens object.
        sae: the SAE of the site.
        store: activations of that model.
        site: hook name.
        loss_tokens: about how many predictions the loss is measured on.
        max_rows: most rows per measurement.
        skip_positions: leading positions that are left out.
    """
    split = store.prompts["split"].to_numpy() if "split" in store.prompts else np.full(store.n_prompts, "")
    held = split == "held_out"
    held = held if held.any() else np.ones_like(held)
    everything = evenly_spaced(
        store.select(np.ones(store.n_prompts, dtype=bool), start=skip_positions), max_rows
    )
    rows = evenly_spaced(store.select(held, start=skip_positions), max_rows)
    counted, measured = reconstruction(sae, store, site, everything), reconstruction(sae, store, site, rows)
    mean = store.read(site, everything).mean(0, dtype=np.float64)
    lengths = store.prompts["n_tokens"].to_numpy()
    chosen = np.flatnonzero(held & (lengths >= skip_positions + 2))
    chosen = evenly_spaced(
        chosen, max(1, int(loss_tokens / max(1.0, float(lengths[chosen].mean()) if len(chosen) else 1.0)))
    )
    loss = loss_recovered(
        model, sae, site, equal_length_batches(store, chosen), mean, skip_positions=skip_positions
    )
    return {
        "site": site,
        "architecture": sae.cfg.architecture(),
        "d_in": sae.cfg.d_in,
        "d_sae": sae.cfg.d_sae,
        "l0": measured.l0,
        "fvu": measured.fvu,
        "ce_loss_recovered": loss.ce_loss_recovered,
        "dead_fraction": counted.dead_fraction,
        "tokens": measured.tokens,
        "dense_fraction": counted.dense_fraction,
        "counted_tokens": counted.tokens,
        "ce_clean": loss.clean,
        "ce_sae": loss.sae,
        "ce_ablated": loss.ablated,
        "ce_tokens": loss.tokens,
        "ce_zeroed": loss.zeroed,
        "ce_loss_recovered_zero": loss.ce_loss_recovered_zero,
        "ce_increase": loss.sae - loss.clean,
        "kl": loss.kl,
        "shrinkage": measured.shrinkage,
        "decoder_encoder_cosine": decoder_encoder_cosine(sae),
    }


def encode_dense(sae: Any, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_sae"]:
    """Feature activations as a dense matrix, on the SAE's device."""
    acts = sae.encode(x.to(sae.W_dec.device))
    return acts.to_dense() if acts.is_sparse else acts
