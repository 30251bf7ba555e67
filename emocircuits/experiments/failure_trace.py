"""The desperate reading along coding scenes: over failed attempts, at the decision to cheat, after the tests
pass.

Tokens of different kinds read differently whatever is going on (the token before an action word has an offset
of its own), so the phases of a scene are compared with the same places of neutral scenes at their first
attempt: all appraisals at level 0, no test failed so far.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import spearmanr

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.errors import UserError
from emocircuits.experiments.readings import token_readings
from emocircuits.models.language_model import LanguageModel
from emocircuits.numerics import bootstrap_interval
from emocircuits.organism.corpus import generate
from emocircuits.organism.documents import Document
from emocircuits.organism.world import APPRAISALS

PHASES = ("before", "decision", "passed")


@dataclass(frozen=True, eq=False)
class FailureTrace:
    """Readings along scenes.

    Attributes:
        by_failures: `failures, reading, ci_low, ci_high, n`: at the last token before the action word.
        phases: `phase, reading, above_neutral, ci_low, ci_high, n` over scenes that end with a cheat and
            passing tests: mean over the tokens of the scene before its last decision sentence (`before`), the
            last token before the action word (`decision`), and the mean over everything after the action
            word's sentence (`passed`). `above_neutral` is the reading minus the mean reading at the same
            places of neutral scenes; the interval belongs to it.
        rise: Spearman correlation of the mean reading with the number of failures.
        peak: above_neutral at the decision minus above_neutral before it.
        fall: above_neutral at the decision minus above_neutral after passing.
    """

    by_failures: pd.DataFrame
    phases: pd.DataFrame
    rise: float
    peak: float
    fall: float


def failure_trace(
    model: LanguageModel,
    directions: EmotionDirections,
    *,
    emotion: str = "desperate",
    n: int = 400,
    seed: int = 0,
    site: str | None = None,
) -> FailureTrace:
    """Reads held-out coding scenes.

    Args:
        model: the organism.
        directions: its directions.
        emotion: which direction.
        n: number of scenes.
        seed: seed of the scenes.
        site: where to read; the directions' reading site by default.

    Raises:
        UserError: no scene ends with a cheat (too few scenes).
    """

    def read(documents: Sequence[Document]) -> list[tuple[Document, Float[np.ndarray, "token"]]]:
        values = token_readings(
            model, directions, [model.encode(document.text) for document in documents], [emotion], site=site
        )
        return [(document, reading[:, 0]) for document, reading in zip(documents, values, strict=True)]

    scenes = read([document for document in generate("coding", n, seed, "held_out") if document.decisions])
    flat = read(list(generate("coding", n, seed, "train", levels=dict.fromkeys(APPRAISALS, 0))))
    neutral = [
        _phases(model, document, values, 0)
        for document, values in flat
        if document.decisions[0].state["failures"] == 0
    ]
    cheats = [
        _phases(model, document, values, -1)
        for document, values in scenes
        if document.decisions[-1].action == document.decisions[-1].options[0]
    ]
    cheats = [series for series in cheats if np.isfinite(series).all()]
    if not cheats or not np.isfinite(np.array(neutral).reshape(-1, len(PHASES))).any(axis=0).all():
        raise UserError(
            f"too few of {n} coding scenes end with a cheat or pass at once", cure="read more scenes"
        )
    baseline = np.nanmean(np.array(neutral), axis=0)
    at_decision = [
        (int(decision.state["failures"]), float(values[len(model.encode(decision.prefix)) - 1]))
        for document, values in scenes
        for decision in document.decisions
    ]
    failures = pd.DataFrame(at_decision, columns=["failures", "reading"])
    counted = [
        (count, *_interval(group["reading"].to_numpy(), seed))
        for count, group in failures.groupby("failures")
    ]
    by_failures = pd.DataFrame(counted, columns=["failures", "reading", "ci_low", "ci_high", "n"])
    above = np.array(cheats) - baseline
    table = pd.DataFrame(
        [
            (name, float(np.mean(raw)), *_interval(values, seed))
            for name, raw, values in zip(PHASES, np.array(cheats).T, above.T, strict=True)
        ],
        columns=["phase", "reading", "above_neutral", "ci_low", "ci_high", "n"],
    )
    rise = (
        float(spearmanr(by_failures["failures"], by_failures["reading"]).statistic)
        if len(by_failures) > 1
        else 0.0
    )
    before, decision, passed = above.mean(axis=0)
    return FailureTrace(by_failures, table, rise, float(decision - before), float(decision - passed))


def _phases(
    model: LanguageModel, document: Document, values: Float[np.ndarray, "token"], which: int
) -> Float[np.ndarray, "phase"]:
    """Readings before, at and (NaN where the tests do not pass there) after one decision of a scene."""
    decision = document.decisions[which]
    end = len(model.encode(decision.prefix))
    stem = len(model.encode(decision.prefix[: decision.prefix.rindex(". ") + 1]))
    tail = document.text[len(decision.prefix) :]
    passed = len(model.encode(decision.prefix + tail[: tail.index(".") + 1]))
    last = decision is document.decisions[-1] and passed < len(values)
    return np.array([values[1:stem].mean(), values[end - 1], values[passed:].mean() if last else np.nan])


def _interval(values: np.ndarray, seed: int) -> tuple[float, float, float, int]:
    low, high = bootstrap_interval(values, seed=seed)
    return float(values.mean()), float(low), float(high), len(values)
