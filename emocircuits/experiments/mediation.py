"""Which features carry the effect of steering: how much of it vanishes when they cannot move.

The direction is pushed at one site. There and at every later site the held features are set back to their
values in the unsteered run, x <- x + Σ_i (f_i^unsteered - f_i(x)) W_dec[i], while everything else runs live.
The mediated share is

    1 - (M(steered, held) - M(unsteered)) / (M(steered) - M(unsteered)),

means over prompts (Vig et al. 2020 call the numerator the direct effect). 0: the features carry nothing, 1:
all of it goes through them; below 0 or above 1: what is left acts the other way round. Holding every feature
leaves what runs through the SAEs' errors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.artifacts.direction import Direction
from emocircuits.artifacts.push import Push
from emocircuits.errors import Failure, UserError
from emocircuits.experiments.resumed import Crew, Edited, Rows, resumed_metric
from emocircuits.models.language_model import LanguageModel
from emocircuits.names import layer_of, residual_site
from emocircuits.numerics import generator
from emocircuits.passes.resume import resume
from emocircuits.passes.task import Task
from emocircuits.progress import bar
from emocircuits.sae.dictionary import Dictionary, open_dictionaries

COLUMNS = (
    "behaviour",
    "held",
    "kind",
    "site",
    "strength",
    "features",
    "share",
    "effect_free",
    "effect_held",
    "mediated",
    "ci_low",
    "ci_high",
    "n",
)


@dataclass(frozen=True, eq=False)
class HeldSet:
    """Features that are held.

    Attributes:
        name: e.g. `matched`, `random 3`.
        kind: `matched` or what it is a control for: `random`, `cosine`, `all`, …
        features: site -> feature numbers; sites before the steering site are left out.
    """

    name: str
    kind: str
    features: Mapping[str, Int[np.ndarray, "_"]]


@dataclass(frozen=True, eq=False)
class Mediation:
    """How much of an effect each set of features carries.

    Attributes:
        table: one row per behaviour and set, columns `COLUMNS`: `features` is the largest number held at a
            site, `share` that number over the size of the dictionary, the interval is a 95 % bootstrap
            interval of `mediated` over prompts.
        values: per behaviour, the metric `(unsteered | steered | one per set, prompt)`.
        sets: names of the sets.
    """

    table: pd.DataFrame
    values: dict[str, Float[np.ndarray, "row prompt"]]
    sets: tuple[str, ...]


@dataclass(frozen=True)
class MediationSettings:
    """How far is pushed.

    Attributes:
        strength: fraction of the mean residual norm.
        seed: seed of the bootstrap.
        batch_tokens: tokens per forward pass.
    """

    strength: float = 0.5
    seed: int = 0
    batch_tokens: int = 4096


def mediation(
    model: LanguageModel,
    saes: Mapping[str, Any],
    tasks: Sequence[Task],
    direction: Direction,
    sets: Sequence[HeldSet],
    settings: MediationSettings | None = None,
) -> Mediation:
    """Steers the clean prompts of every task along a direction, freely and with each set of features held.

    Args:
        model: the model.
        saes: site -> SAE; those of the steering site and later ones are used.
        tasks: one for each behaviour, by whose name its values go.
        direction: where it is pushed.
        sets: what is held.
        settings: strength and seed.

    Raises:
        UserError: no set, or a set that names a feature or site that no SAE has.
        Failure: steering has no effect on a behaviour.
    """
    settings, site = settings or MediationSettings(), direction.site
    dictionaries = {
        name: dictionary
        for name, dictionary in open_dictionaries(saes, model.d_model).items()
        if layer_of(name) >= layer_of(site)
    }
    masks = _masks(sets, dictionaries, site)
    push = direction.push(settings.strength)
    values, crew = {}, Crew.of(model.bridge)
    with bar((2 + len(sets)) * sum(len(task.prompts) for task in tasks), "mediation") as shown:
        for task in tasks:
            plan = _Held(model, dictionaries, masks, push)
            values[task.behaviour] = resumed_metric(
                model,
                task.prompts.token_lists(),
                Rows(site, 2 + len(sets), plan),
                task.metric,
                crew=crew,
                batch_tokens=settings.batch_tokens,
                tick=shown.update,
            )
    rows = []
    for name, block in values.items():
        effects = block[1:] - block[0]
        if not abs(effects[0].mean()) > 0:
            raise Failure(f"steering at {site} does not move {name}", expected="an effect to be mediated")
        shares, low, high = _shares(effects, settings.seed)
        for number, held_set in enumerate(sets):
            count = max(
                (len(held_set.features[s]) for s in held_set.features if s in dictionaries), default=0
            )
            rows.append(
                (
                    name,
                    held_set.name,
                    held_set.kind,
                    site,
                    settings.strength,
                    count,
                    count / dictionaries[site].d_sae,
                    effects[0].mean(),
                    effects[1 + number].mean(),
                    shares[number],
                    low[number],
                    high[number],
                    block.shape[1],
                )
            )
    return Mediation(
        pd.DataFrame(rows, columns=list(COLUMNS)), values, tuple(held_set.name for held_set in sets)
    )


@dataclass(frozen=True)
class _Held:
    """Makes the passes: row 0 unsteered, row 1 steered, then steered with one set held each."""

    model: LanguageModel
    dictionaries: Mapping[str, Dictionary]
    masks: Mapping[str, Float[Tensor, "row d_sae"]]
    push: Push

    def __call__(self, tokens: Tensor, residual: Tensor) -> Edited:
        start = self.push.site
        free: dict[str, Tensor] = {start: self.dictionaries[start].encode(residual)}
        later = [site for site in self.dictionaries if site != start]

        def read(site: str):
            def hook(value: Tensor, hook: object = None) -> None:
                free[site] = self.dictionaries[site].encode(value)

            return hook

        if later:
            hooks = [(site, read(site)) for site in later]
            until = residual_site(max(map(layer_of, later)))
            resume(self.model.bridge, tokens, start, residual, until=until, hooks=hooks)

        def make(rows: Tensor, columns: Tensor):
            steered = (rows > 0).to(residual.dtype)[:, None, None] * self.push.vector.to(residual)
            held = {
                site: _hold(dictionary, free[site][columns], self.masks[site][rows])
                for site, dictionary in self.dictionaries.items()
            }
            return held[start](residual[columns] + steered), [(site, held[site]) for site in later]

        return make


def _hold(dictionary: Dictionary, free: Tensor, mask: Tensor):
    """Sets the masked features of each row back to their free values."""
    columns = (mask != 0).any(0).nonzero().squeeze(1)
    active = (mask != 0).any(1).nonzero().squeeze(1)
    chosen, values, decoder = (
        mask[active][:, None, columns],
        free[active][..., columns],
        dictionary.decoder[columns],
    )

    def edit(x: Tensor, hook: object = None) -> Tensor:
        if not len(columns):
            return x
        back = ((values - dictionary.encode(x[active])[..., columns]) * chosen) @ decoder
        return x.index_add(0, active, back.to(x.dtype))

    return edit


def _masks(sets: Sequence[HeldSet], dictionaries: Mapping[str, Dictionary], site: str) -> dict[str, Tensor]:
    if not sets:
        raise UserError("no features to hold", expected="at least one set")
    if site not in dictionaries:
        raise UserError(f"no SAE at the steering site {site}", expected=", ".join(dictionaries))
    masks = {
        name: torch.zeros(
            2 + len(sets),
            dictionary.d_sae,
            dtype=dictionary.decoder.dtype,
            device=dictionary.decoder.device,
        )
        for name, dictionary in dictionaries.items()
    }
    for row, held_set in enumerate(sets, start=2):
        for name, features in held_set.features.items():
            if name in dictionaries and len(features):
                if features.min() < 0 or features.max() >= dictionaries[name].d_sae:
                    raise UserError(
                        f"the set '{held_set.name}' holds feature {int(features.max())} at {name}",
                        expected=f"0 to {dictionaries[name].d_sae - 1}",
                    )
                masks[name][row, torch.from_numpy(features)] = 1
    return masks


def _shares(effects: Float[np.ndarray, "row prompt"], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mediated shares (row 0 is the free effect) with 95 % percentile bootstrap intervals over prompts."""
    count = effects.shape[1]
    weights = generator(seed, "mediation").multinomial(count, np.full(count, 1 / count), size=1000) / count
    resampled = weights @ effects.T
    shares = 1 - resampled[:, 1:] / resampled[:, :1]
    low, high = np.nanquantile(shares, [0.025, 0.975], axis=0)
    return 1 - effects[1:].mean(axis=1) / effects[0].mean(), low, high
