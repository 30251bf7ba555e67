"""Steering dose-response: how behaviours move with the strength of a direction, next to matched controls.

Strength is a fraction of the mean residual norm at the site (sink masked); all directions are unit vectors,
so equal strengths are equal pushes. Measures per prompt: `logit_diff`, the behaviour's log-odds M; `rate` =
sigmoid(M), the probability of the behaviour's tokens among them and the honest ones; and, where the action
tokens are known, `sampled_rate`, how often the model takes the behaviour's token when it is sampled freely,
and `other_rate`, how often it takes neither (a push that breaks the model shows here). Intervals are 95 %
bootstrap intervals over prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.artifacts.direction import Direction
from emocircuits.behaviours.metrics import LogOdds
from emocircuits.errors import UserError
from emocircuits.experiments.resumed import Crew
from emocircuits.experiments.steered import Metric, site_of, steered_metric
from emocircuits.models.language_model import LanguageModel
from emocircuits.numerics import bootstrap_interval, generator
from emocircuits.passes.metric import ask
from emocircuits.passes.task import Task
from emocircuits.progress import bar

METRICS = ("logit_diff", "rate")
SAMPLED = ("sampled_rate", "other_rate")


@dataclass(frozen=True)
class DoseSettings:
    """How much is steered.

    Attributes:
        strengths: for emotion directions; 0 is always measured, once for all.
        control_strengths: for the other kinds; the same by default, fewer save time.
        samples: actions sampled for every prompt, direction and strength.
        seed: seed of the bootstrap and of the samples.
        batch_tokens: tokens per forward pass.
    """

    strengths: tuple[float, ...] = (-0.5, -0.25, -0.1, 0.0, 0.1, 0.25, 0.5)
    control_strengths: tuple[float, ...] | None = None
    samples: int = 10
    seed: int = 0
    batch_tokens: int = 4096

    @property
    def full(self) -> tuple[float, ...]:
        """Strengths of emotion directions, ascending, with 0."""
        return tuple(sorted({0.0, *map(float, self.strengths)}))

    @property
    def few(self) -> tuple[float, ...]:
        """Strengths of controls, ascending, with 0."""
        chosen = self.strengths if self.control_strengths is None else self.control_strengths
        return tuple(sorted({0.0, *map(float, chosen)}))


@dataclass(frozen=True, eq=False)
class DoseResponse:
    """The outcome of a steering experiment.

    Attributes:
        table: `direction, kind, strength, behaviour, metric, value, ci_low, ci_high, n`.
        slopes: `direction, kind, behaviour, metric, slope, ci_low, ci_high, p_value, alternative`:
            least-squares slope of the mean over strength, at the strengths that all directions share. The
            p-value ranks |slope| among those of the random directions, (1 + number at least as large) / (1 +
            number of random directions), two-sided; NaN for the random directions themselves.
        values: per behaviour, log-odds `(direction, strength, prompt)`, NaN where not measured.
        sampled: per behaviour with known action tokens, `(direction, strength, prompt, sampled_rate |
            other_rate)`.
        strengths: the second axis of `values`.
        directions: names, the first axis of `values`.
    """

    table: pd.DataFrame
    slopes: pd.DataFrame
    values: dict[str, Float[np.ndarray, "direction strength prompt"]]
    strengths: tuple[float, ...]
    directions: tuple[str, ...]
    sampled: dict[str, Float[np.ndarray, "direction strength prompt outcome"]]


def dose_response(
    model: LanguageModel,
    tasks: Sequence[Task],
    directions: Sequence[Direction],
    settings: DoseSettings | None = None,
) -> DoseResponse:
    """Steers the clean prompts of every task along every direction at every strength.

    Args:
        model: the model.
        tasks: one for each behaviour, by whose name its values go.
        directions: emotions and controls, all at one site.
        settings: strengths, samples and seed.

    Raises:
        UserError: no directions, or strengths that controls and emotions do not share besides 0.
        Failure: steering changed nothing.
    """
    settings = settings or DoseSettings()
    full, few, seed = settings.full, settings.few, settings.seed
    shared = [strength for strength in few if strength in full]
    if not directions or len(shared) < 2:
        raise UserError(
            f"{len(directions)} directions and {len(shared)} shared strengths",
            expected="at least one direction and two strengths",
        )
    grid = tuple(sorted({*full, *few}))
    cells = [
        (row, column)
        for row, direction in enumerate(directions)
        for column, strength in enumerate(grid)
        if strength != 0 and strength in (full if direction.kind == "emotion" else few)
    ]
    pushes = np.zeros((len(cells) + 1, model.d_model), dtype=np.float32)
    for number, (row, column) in enumerate(cells):
        pushes[number] = directions[row].push(grid[column]).vector
    values, sampled, crew = {}, {}, Crew.of(model.bridge)
    with bar(len(pushes) * sum(len(task.prompts) for task in tasks), "steer") as shown:
        for task in tasks:
            measured = steered_metric(
                model,
                task.prompts.token_lists(),
                pushes,
                partial(_outcomes, task.metric),
                site=site_of(directions),
                crew=crew,
                batch_tokens=settings.batch_tokens,
                tick=shown.update,
            )
            block = np.full((len(directions), len(grid), *measured.shape[1:]), np.nan)
            block[:, grid.index(0.0)] = measured[-1]
            for number, (row, column) in enumerate(cells):
                block[row, column] = measured[number]
            values[task.behaviour] = block[..., 0]
            if isinstance(task.metric, LogOdds):
                sampled[task.behaviour] = _sampled(
                    block[..., 1:], settings.samples, generator(seed, "sampled actions", task.behaviour)
                )
    return DoseResponse(
        table=_table(values, sampled, directions, grid, seed),
        slopes=_slopes(values, directions, grid, shared, seed),
        values=values,
        strengths=grid,
        directions=tuple(direction.name for direction in directions),
        sampled=sampled,
    )


def log_odds_or_rate(values: Float[np.ndarray, "*rest"], metric: str) -> Float[np.ndarray, "*rest"]:
    """Log-odds as `logit_diff` or as `rate`."""
    return values if metric == "logit_diff" else 1 / (1 + np.exp(-values))


def rank_p_value(value: float, null: Float[np.ndarray, "draw"]) -> float:
    """Two-sided rank p-value: (1 + number of null values at least as far from 0) / (1 + number of null
    values).
    """
    return float((1 + np.count_nonzero(np.abs(null) >= abs(value))) / (1 + len(null)))


def prompt_slopes(
    values: Float[np.ndarray, "direction strength prompt"], strengths: Float[np.ndarray, "strength"]
) -> Float[np.ndarray, "direction prompt"]:
    """Least-squares slope over strength for every direction and prompt."""
    centred = strengths - strengths.mean()
    return np.einsum("s,dsp->dp", centred, values) / float((centred**2).sum())


def _outcomes(
    metric: Metric, logits: Float[Tensor, "prompt pos d_vocab"], index: Int[Tensor, "prompt"]
) -> Float[Tensor, "prompt outcome"]:
    """The metric, and the full model's probabilities of the behaviour's and of the honest tokens (0 where
    not known).
    """
    values = ask(metric, logits, index).double()[:, None]
    known = metric.probabilities(logits, index) if isinstance(metric, LogOdds) else torch.zeros_like(values)
    return torch.cat([values, known], dim=1)


def _sampled(
    shares: Float[np.ndarray, "direction strength prompt outcome"], samples: int, source: np.random.Generator
) -> Float[np.ndarray, "direction strength prompt outcome"]:
    """Shares of `samples` draws that are the behaviour and that are neither action; NaN where not
    measured.
    """
    outcomes = np.full(shares.shape, np.nan)
    done = ~np.isnan(shares[..., 0])
    known = np.clip(shares[done], 0, 1)
    rest = np.clip(1 - known.sum(axis=-1, keepdims=True), 0, None)
    every = np.concatenate([known, rest], axis=-1)
    draws = source.multinomial(samples, every / every.sum(axis=-1, keepdims=True)) / samples
    outcomes[done] = draws[..., [0, 2]]
    return outcomes


def _table(
    values: dict, sampled: dict, directions: Sequence[Direction], grid: tuple[float, ...], seed: int
) -> pd.DataFrame:
    rows = []
    for behaviour, block in values.items():
        done = ~np.isnan(block).any(axis=2)
        measures = {metric: log_odds_or_rate(block[done], metric) for metric in METRICS}
        if behaviour in sampled:
            measures |= {name: sampled[behaviour][done][..., outcome] for outcome, name in enumerate(SAMPLED)}
        for metric, per_cell in measures.items():
            cells = per_cell.T  # (prompt, cell)
            low, high = bootstrap_interval(cells, seed=seed)
            for number, (row, column) in enumerate(zip(*np.nonzero(done), strict=True)):
                rows.append(
                    (
                        directions[row].name,
                        directions[row].kind,
                        grid[column],
                        behaviour,
                        metric,
                        float(cells[:, number].mean()),
                        float(low[number]),
                        float(high[number]),
                        block.shape[2],
                    )
                )
    return pd.DataFrame(
        rows,
        columns=["direction", "kind", "strength", "behaviour", "metric", "value", "ci_low", "ci_high", "n"],
    )


def _slopes(
    values: dict,
    directions: Sequence[Direction],
    grid: tuple[float, ...],
    shared: list[float],
    seed: int,
) -> pd.DataFrame:
    columns = [grid.index(strength) for strength in shared]
    is_random = np.array([direction.kind == "random" for direction in directions])
    rows = []
    for behaviour, block in values.items():
        for metric in METRICS:
            slopes = prompt_slopes(log_odds_or_rate(block[:, columns], metric), np.asarray(shared))
            means = slopes.mean(axis=1)
            low, high = bootstrap_interval(slopes.T, seed=seed)
            for row, direction in enumerate(directions):
                p_value = (
                    rank_p_value(means[row], means[is_random])
                    if is_random.any() and not is_random[row]
                    else np.nan
                )
                rows.append(
                    (
                        direction.name,
                        direction.kind,
                        behaviour,
                        metric,
                        float(means[row]),
                        float(low[row]),
                        float(high[row]),
                        p_value,
                        "two-sided",
                    )
                )
    names = [
        "direction",
        "kind",
        "behaviour",
        "metric",
        "slope",
        "ci_low",
        "ci_high",
        "p_value",
        "alternative",
    ]
    return pd.DataFrame(rows, columns=names)
