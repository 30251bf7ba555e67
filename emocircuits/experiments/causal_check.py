"""Does a matched feature act? Each one is pushed and taken out on held-out prompts, next to features that
fire as often.

*Steer*: the slope of the behaviour's log-odds M when the feature's decoder row is pushed at every position,
(M(+s) - M(-s)) / 2s with s in fractions of the mean residual norm, on prompts without pressure. *Ablate*: M
without the feature minus M with it, on prompts where circumstances are desperate. The same is measured for as
many random features of the same firing rates (their effects are the null), for all carriers of the direction
together, and for the direction itself.

A feature that takes part in the emotion's effect has a slope of the direction's sign, an ablation of the
opposite one, and both beyond what random features give.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from emocircuits.artifacts.direction import Direction
from emocircuits.errors import UserError
from emocircuits.experiments.resumed import Crew, Edited, Rows, resumed_metric
from emocircuits.experiments.steered import steered_metric
from emocircuits.experiments.steering import rank_p_value
from emocircuits.models.language_model import LanguageModel
from emocircuits.numerics import benjamini_hochberg, bootstrap_interval
from emocircuits.passes.task import Task
from emocircuits.sae.dictionary import Dictionary, open_dictionaries

COLUMNS = (
    "emotion",
    "site",
    "what",
    "feature",
    "features",
    "behaviour",
    "intervention",
    "effect",
    "ci_low",
    "ci_high",
    "random_mean",
    "random_low",
    "random_high",
    "n_random",
    "p_value",
    "q_value",
    "n",
)


@dataclass(frozen=True, eq=False)
class SiteCheck:
    """What is checked at one site for one emotion.

    Attributes:
        direction: the emotion's direction at a site.
        kept: matched features.
        random: features of the same firing rates, the null of `kept`.
        carriers: the features that write most of the direction.
        carrier_weights: Δf of each carrier: together they are pushed along Σ Δf_i W_dec[i].
        random_sets: as many features for each carrier of the same firing rates, one row per draw.
        random_vectors: random directions, the null of `direction`.
        mean: where the stream is centred when the direction is taken out.
    """

    direction: Direction
    kept: Int[np.ndarray, "kept"]
    random: Int[np.ndarray, "random"]
    carriers: Int[np.ndarray, "carrier"]
    carrier_weights: Float[np.ndarray, "carrier"]
    random_sets: Int[np.ndarray, "draw carrier"]
    random_vectors: Float[np.ndarray, "control d_model"]
    mean: Float[np.ndarray, "d_model"]

    @property
    def site(self) -> str:
        """Where it is checked."""
        return self.direction.site


@dataclass(frozen=True)
class CausalSettings:
    """How far is pushed.

    Attributes:
        strength: how far to push either way, a fraction of the mean residual norm.
        seed: seed of the bootstrap.
        batch_tokens: tokens per forward pass.
    """

    strength: float = 0.25
    seed: int = 0
    batch_tokens: int = 4096


def causal_check(
    model: LanguageModel,
    saes: Mapping[str, Any],
    checks: Sequence[SiteCheck],
    neutral: Sequence[Task],
    pressed: Sequence[Task],
    settings: CausalSettings | None = None,
) -> pd.DataFrame:
    """Steers and ablates what `checks` name, site by site.

    Args:
        model: the model.
        saes: site -> SAE.
        checks: one for each site, all of one emotion.
        neutral: per behaviour, a task whose clean prompts are without pressure, to steer.
        pressed: the same behaviours, clean prompts in desperate circumstances, to ablate.
        settings: strength and seed.

    Returns:
        `COLUMNS`: `what` is `feature`, `carriers` or `direction` (`feature` -1 for the last two); the random
            columns are the mean and the 2.5 and 97.5 % quantiles of the null; p is its two-sided rank; q is
            Benjamini–Hochberg over the features of the emotion, per behaviour and intervention (equal to p
            for `carriers` and `direction`).

    Raises:
        UserError: no site, several emotions, or an SAE that does not fit.
    """
    settings, emotions = settings or CausalSettings(), {check.direction.name for check in checks}
    if not checks:
        raise UserError(
            "no site to check features at", cure="match first, or ask for an emotion with matches"
        )
    if len(emotions) > 1:
        raise UserError(f"checks of {', '.join(sorted(emotions))}", expected="checks of one emotion")
    dictionaries = open_dictionaries({check.site: saes[check.site] for check in checks}, model.d_model)
    rows, crew = [], Crew.of(model.bridge)
    for check in checks:
        dictionary = dictionaries[check.site]
        kinds, taken = _kinds(check), _masks(check, dictionary.d_sae)
        pushes = np.stack(
            [pushed.push(settings.strength).vector for pushed in _directions(check, dictionary)]
        )
        both = np.concatenate([pushes, -pushes]).astype(np.float32)
        for task in neutral:
            values = steered_metric(
                model,
                task.prompts.token_lists(),
                both,
                task.metric,
                site=check.site,
                crew=crew,
                batch_tokens=settings.batch_tokens,
            )
            slopes = (values[: len(pushes)] - values[len(pushes) :]) / (2 * settings.strength)
            rows += _rows(check, task.behaviour, "steer", slopes, settings.seed)
        without = Rows(check.site, 1 + len(kinds), _Taken(dictionary, taken, check))
        for task in pressed:
            values = resumed_metric(
                model,
                task.prompts.token_lists(),
                without,
                task.metric,
                crew=crew,
                batch_tokens=settings.batch_tokens,
            )
            rows += _rows(check, task.behaviour, "ablate", values[1:] - values[0], settings.seed)
    table = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "q_value"])
    table["q_value"] = table["p_value"]
    for _, group in table[table["what"] == "feature"].groupby(["behaviour", "intervention"]):
        table.loc[group.index, "q_value"] = benjamini_hochberg(group["p_value"].to_numpy())
    return table[list(COLUMNS)]


def _kinds(check: SiteCheck) -> np.ndarray:
    """What each row of a batch is; a null stands after the rows it belongs to."""
    counts = {
        "feature": len(check.kept),
        "random feature": len(check.random),
        "carriers": int(len(check.carriers) > 0),
        "random carriers": len(check.random_sets),
        "direction": 1,
        "random direction": len(check.random_vectors),
    }
    return np.repeat(list(counts), list(counts.values()))


def _directions(check: SiteCheck, dictionary: Dictionary) -> list[Direction]:
    """What is pushed, in the order of `_kinds`."""
    decoder = dictionary.decoder.double().cpu().numpy()
    sets = [check.carriers, *check.random_sets] if len(check.carriers) else []
    together = [check.carrier_weights @ decoder[chosen] for chosen in sets]
    vectors = [
        *decoder[check.kept],
        *decoder[check.random],
        *together,
        check.direction.vector.astype(np.float64),
        *check.random_vectors.astype(np.float64),
    ]
    return [replace(check.direction, vector=vector) for vector in vectors]


def _masks(check: SiteCheck, d_sae: int) -> Bool[np.ndarray, "row feature"]:
    """Features that are taken out, in the order of `_kinds`; none for the directions."""
    chosen = [[feature] for feature in (*check.kept, *check.random)]
    chosen += [check.carriers, *check.random_sets] if len(check.carriers) else []
    masks = np.zeros((len(chosen) + 1 + len(check.random_vectors), d_sae), dtype=bool)
    for row, features in enumerate(chosen):
        masks[row, features] = True
    return masks


@dataclass(frozen=True)
class _Taken:
    """Row 0 is the model as it is; row 1 + i is without the i-th features, or without the i-th direction."""

    dictionary: Dictionary
    masks: Bool[np.ndarray, "row feature"]
    check: SiteCheck

    def __call__(self, tokens: Tensor, residual: Tensor) -> Edited:
        used = np.flatnonzero(self.masks.any(axis=0))
        masks = torch.from_numpy(np.concatenate([np.zeros((1, len(used)), bool), self.masks[:, used]])).to(
            residual
        )
        features, decoder = (
            self.dictionary.encode(residual)[..., used].to(residual),
            self.dictionary.decoder[used].to(residual),
        )
        vectors = np.concatenate([self.check.direction.vector[None], self.check.random_vectors])
        lines = torch.zeros(len(masks), residual.shape[-1]).to(residual)
        lines[-len(vectors) :] = torch.from_numpy(vectors).to(residual)
        centred = residual - torch.from_numpy(self.check.mean).to(residual)

        def make(rows: Tensor, columns: Tensor):
            out = (features[columns] * masks[rows][:, None]) @ decoder
            line = lines[rows][:, None]
            out += (centred[columns] * line).sum(-1, keepdim=True) * line
            return residual[columns] - out, []

        return make


def _rows(
    check: SiteCheck,
    behaviour: str,
    intervention: str,
    effects: Float[np.ndarray, "row prompt"],
    seed: int,
) -> list[tuple]:
    kinds, means = _kinds(check), effects.mean(axis=1)
    low, high = bootstrap_interval(effects.T, seed=seed)
    rows = []
    for what in ("feature", "carriers", "direction"):
        null = means[kinds == f"random {what}"]
        for number, row in enumerate(np.flatnonzero(kinds == what)):
            feature = int(check.kept[number]) if what == "feature" else -1
            size = 1 if what == "feature" else len(check.carriers) if what == "carriers" else 0
            spread = (
                (null.mean(), *np.quantile(null, [0.025, 0.975])) if len(null) else (np.nan, np.nan, np.nan)
            )
            rows.append(
                (
                    check.direction.name,
                    check.site,
                    what,
                    feature,
                    size,
                    behaviour,
                    intervention,
                    means[row],
                    low[row],
                    high[row],
                    *spread,
                    len(null),
                    rank_p_value(means[row], null),
                    effects.shape[1],
                )
            )
    return rows
