"""What SAEs are worth: what they reconstruct, with how many features, and what the model loses by them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from emocircuits.activations.residuals import length_batches
from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.errors import Failure, UserError
from emocircuits.experiments.resumed import Crew
from emocircuits.keep import PartKeeper, always_make
from emocircuits.passes.hooks import recorded
from emocircuits.passes.resume import resume, stream_at
from emocircuits.progress import track
from emocircuits.sae.dictionary import open_dictionaries
from emocircuits.sae.geometry import decoder_encoder_cosine
from emocircuits.sae.quality import DENSE, Reconstruction, firing_rates, reconstruction
from emocircuits.sae.rows import evenly_spaced, ordinary_rows
from emocircuits.threads import side_by_side

LOGITS = 1 << 25  # logits of a pass at most, where a large vocabulary would take gigabytes


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
def loss_recovered(
    model: Any,
    saes: Mapping[str, Any],
    prompts: Sequence[Int[Tensor, "_"]],
    means: Mapping[str, Float[np.ndarray, "d_model"]],
    *,
    skip_positions: int = 1,
    batch_tokens: int = 2048,
) -> dict[str, LossRecovered]:
    """Cross-entropies with one site left alone, spliced, mean-ablated and zeroed, over the same predictions.

    One clean pass per batch holds the streams of all sites, and from each site on the spliced stream resumes:
    the blocks before it do not run again. Where a site is ablated, what follows depends on nothing but the
    position and the tokens that are left alone: it is run once for each beginning of a prompt.

    Args:
        model: any TransformerLens object.
        saes: site -> SAE; sites are the residual stream between blocks, taken one at a time.
        prompts: token ids.
        means: site -> what an ablated position holds (the mean of the site's rows).
        skip_positions: leading positions that stay as they are and whose predictions do not count.
        batch_tokens: tokens (with padding at the end) per forward pass.

    Raises:
        UserError: no prompt is long enough, or an SAE or a site that does not fit.
    """
    first, dictionaries = skip_positions, open_dictionaries(saes)
    prompts = [prompt for prompt in prompts if len(prompt) >= first + 2]
    if not prompts:
        raise UserError(
            "no prompt is long enough to measure the loss on", expected=f"at least {first + 2} tokens"
        )
    count = sum(len(prompt) - 1 - first for prompt in prompts)
    lengths = np.array([len(prompt) for prompt in prompts])
    crew = Crew.of(model)

    @torch.no_grad()
    def sums(number: int, chosen: Int[np.ndarray, "prompt"]) -> Float[Tensor, "site two"]:
        """Of a batch: the clean loss twice, then per site the loss and the divergence with the SAE."""
        tokens, kept, targets = _predictions([prompts[prompt] for prompt in chosen], first, model.cfg.device)
        with crew.member(number) as member, recorded(member, dictionaries) as streams:
            log_probs = member(tokens)[kept].float().log_softmax(-1)
        probs, loss = log_probs.exp(), -_sum(log_probs.gather(-1, targets))
        found = [(loss, loss)]
        for site, dictionary in dictionaries.items():
            x = streams[site][:, first:]
            decoded = dictionary.decode_active(dictionary.active(x.flatten(0, 1))).view_as(x)
            stream = torch.cat([streams[site][:, :first], decoded.to(x)], dim=1)
            with_sae = crew.resume(number, tokens, site, stream, last=False)[kept].float().log_softmax(-1)
            divergence = torch.linalg.vecdot(probs, log_probs - with_sae)
            found.append((-_sum(with_sae.gather(-1, targets)), _sum(divergence)))
        return torch.tensor(found, dtype=torch.float64)

    batches = length_batches(lengths, batch_tokens)
    total = sum(side_by_side(sums, batches, range(len(crew.bridges)))) / count
    (clean, _), *with_saes = total.tolist()
    return {
        site: LossRecovered(
            clean,
            loss,
            *_ablated_losses(model, prompts, site, means[site], first),
            kl=kl,
            tokens=count,
        )
        for site, (loss, kl) in zip(dictionaries, with_saes, strict=True)
    }


def quality_rows(
    model: Any,
    saes: Mapping[str, Any],
    store: ActivationStore,
    *,
    loss_tokens: int = 20_000,
    max_rows: int = 200_000,
    skip_positions: int = 1,
    keep: PartKeeper = always_make,
) -> list[dict[str, Any]]:
    """The rows of `saes.csv`: measured on the prompts the SAEs did not learn from (split `held_out`), else on
    all.

    Dead and dense fractions are counted on up to `max_rows` evenly spaced rows of the whole store
    (`counted_tokens`), because a rare feature may be silent on few rows; the rest on held-out rows
    (`tokens`). Massive rows (`sae.rows.ordinary_rows`) are left out and counted (`massive_tokens`).

    Args:
        model: any TransformerLens object.
        saes: site -> SAE.
        store: activations of that model.
        loss_tokens: about how many predictions the loss is measured on.
        max_rows: most rows per measurement.
        skip_positions: leading positions that are left out.
        keep: keeps what was measured of a site.

    Raises:
        UserError: an SAE that does not fit its site, or prompts that are all too short.
    """
    split = store.prompts["split"].to_numpy() if "split" in store.prompts else np.full(store.n_prompts, "")
    held = split == "held_out"
    held = held if held.any() else np.ones_like(held)
    measured, rates, means, massive, counted = {}, {}, {}, {}, {}
    for site in track(saes, "measure SAEs", total=len(saes)):
        every = ordinary_rows(store, site, np.ones_like(held), skip_positions)
        massive[site] = int((store.positions >= skip_positions).sum()) - len(every)
        every = evenly_spaced(every, max_rows)
        counted[site] = len(every)
        rows = evenly_spaced(ordinary_rows(store, site, held, skip_positions), max_rows)
        measured[site], rates[site], means[site] = keep(
            f"measured {site}", partial(_measured, saes[site], store, site, rows, every), Reconstruction
        )
    lengths = store.prompts["n_tokens"].to_numpy()
    chosen = np.flatnonzero(held & (lengths >= skip_positions + 2))
    chosen = evenly_spaced(
        chosen, max(1, int(loss_tokens / max(1.0, float(lengths[chosen].mean()) if len(chosen) else 1.0)))
    )
    offsets = store.prompts["offset"].to_numpy()
    prompts = [
        torch.from_numpy(store.tokens[offsets[prompt] : offsets[prompt] + lengths[prompt]].astype(np.int64))
        for prompt in chosen
    ]
    losses = loss_recovered(
        model,
        saes,
        prompts,
        means,
        skip_positions=skip_positions,
        batch_tokens=min(2048, max(256, LOGITS // int(model.cfg.d_vocab))),
    )
    return [
        {
            "site": site,
            "architecture": sae.cfg.architecture(),
            "d_in": sae.cfg.d_in,
            "d_sae": sae.cfg.d_sae,
            "l0": measured[site].l0,
            "fvu": measured[site].fvu,
            "ce_loss_recovered": losses[site].ce_loss_recovered,
            "dead_fraction": float((rates[site] == 0).mean()),
            "tokens": measured[site].tokens,
            "dense_fraction": float((rates[site] > DENSE).mean()),
            "counted_tokens": counted[site],
            "massive_tokens": massive[site],
            "ce_clean": losses[site].clean,
            "ce_sae": losses[site].sae,
            "ce_ablated": losses[site].ablated,
            "ce_tokens": losses[site].tokens,
            "ce_zeroed": losses[site].zeroed,
            "ce_loss_recovered_zero": losses[site].ce_loss_recovered_zero,
            "ce_increase": losses[site].sae - losses[site].clean,
            "kl": losses[site].kl,
            "shrinkage": measured[site].shrinkage,
            "decoder_encoder_cosine": decoder_encoder_cosine(sae),
        }
        for site, sae in saes.items()
    ]


def _measured(
    sae: Any,
    store: ActivationStore,
    site: str,
    rows: Int[np.ndarray, "held"],
    everything: Int[np.ndarray, "any"],
) -> tuple[Reconstruction, Float[np.ndarray, "feature"], Float[np.ndarray, "d_model"]]:
    """What an SAE reconstructs of held-out rows, and of all rows how often features fire, and the mean."""
    mean = store.read(site, everything).mean(0, dtype=np.float64)
    return reconstruction(sae, store, site, rows), firing_rates(sae, store, site, everything), mean


def _predictions(
    prompts: Sequence[Int[Tensor, "_"]], first: int, device: Any
) -> tuple[Int[Tensor, "prompt pos"], Bool[Tensor, "prompt pos"], Int[Tensor, "prediction one"]]:
    """Prompts padded at the end, the positions whose next token is predicted, and those tokens."""
    tokens = pad_sequence(list(prompts), batch_first=True).to(device)
    ends = torch.tensor([len(prompt) - 1 for prompt in prompts], device=device)[:, None]
    positions = torch.arange(tokens.shape[1], device=device)
    kept = (positions >= first) & (positions < ends)
    return tokens, kept, tokens.roll(-1, dims=1)[kept][:, None]


def _ablated_losses(
    model: Any,
    prompts: Sequence[Int[Tensor, "_"]],
    site: str,
    mean: Float[np.ndarray, "d_model"],
    first: int,
) -> list[float]:
    """Mean cross-entropies when the site holds its mean, or zero, from position `first` on."""
    alike: dict[tuple[int, ...], list[Tensor]] = {}
    for prompt in prompts:
        alike.setdefault(tuple(prompt[:first].tolist()), []).append(prompt)
    losses, count = torch.zeros(2, dtype=torch.float64), 0
    for same in alike.values():
        longest = max(same, key=len)[None].to(model.cfg.device)
        left = stream_at(model, longest[:, : max(1, first)], site)  # what comes later is not looked at
        stream = left[:, -1:].repeat(2, longest.shape[1], 1)
        stream[:, :first] = left[:, :first]
        stream[0, first:] = torch.from_numpy(np.asarray(mean, dtype=np.float32)).to(stream)
        stream[1, first:] = 0
        log_probs = resume(model, longest.repeat(2, 1), site, stream).float().log_softmax(-1)
        positions = torch.cat([torch.arange(first, len(prompt) - 1) for prompt in same])
        targets = torch.cat([prompt[first + 1 :] for prompt in same])
        losses -= log_probs[:, positions, targets].sum(dim=1, dtype=torch.float64).cpu()
        count += len(targets)
    return (losses / count).tolist()


def _sum(values: Tensor) -> float:
    return float(values.sum(dtype=torch.float64))
