"""The desperate reading along coding scenes: over failed attempts, at the decision to cheat, after the tests pass."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from emocircuits.artifacts.emotion_directions import EmotionDirections
from emocircuits.errors import UserError
from emocircuits.experiments.readings import token_readings
from emocircuits.models.language_model import LanguageModel
from emocircuits.numerics import bootstrap_interval
from emocircuits.organism.corpus import generate


@dataclass(frozen=True, eq=False)
class FailureTrace:
    """Readings along scenes.

    Attributes:
        by_failures: `failures, reading, ci_low, ci_high, n`: at the last token before the action word.
        phases: `phase, reading, ci_low, ci_high, n` over scenes that end with a cheat and passing tests: mean over the tokens
            of the scene before its last decision sentence (`before`), of the last decision's sentence up to the action word
            (`decision`), and of everything after the action word's sentence (`passed`).
        rise: Spearman correlation of the mean reading with the number of failures.
        peak: mean over those scenes of reading(decision) - reading(before).
        fall: mean over those scenes of reading(decision) - reading(passed).
    """

    by_failures: pd.DataFrame
    phases: pd.DataFrame
    rise: float
    peak: float
    fall: float


def failure_trace(
    model: LanguageModel, directions: EmotionDirections, *, emotion: str = "desperate", n: int = 400, seed: int = 0, site: str | None = None
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
    scenes = [document for document in generate("coding", n, seed, "held_out") if document.decisions]
    readings = token_readings(model, directions, [model.encode(document.text) for document in scenes], [emotion], site=site)
    at_decision: list[tuple[int, float]] = []
    phases: list[tuple[float, float, float]] = []
    for document, values in zip(scenes, readings, strict=True):
        ends = [len(model.encode(decision.prefix)) for decision in document.decisions]
        at_decision += [(int(decision.state["failures"]), float(values[end - 1, 0])) for decision, end in zip(document.decisions, ends, strict=True)]
        last = document.decisions[-1]
        if last.action != last.options[0]:
            continue
        stem = len(model.encode(last.prefix[: last.prefix.rindex(". ") + 1]))
        tail = document.text[len(last.prefix):]
        passed = len(model.encode(last.prefix + tail[: tail.index(".") + 1]))
        if stem < ends[-1] and passed < len(values):
            phases.append((float(np.mean(values[1:stem, 0])), float(np.mean(values[stem:ends[-1], 0])), float(np.mean(values[passed:, 0]))))
    if not phases:
        raise UserError(f"none of {n} coding scenes ends with a cheat", cure="read more scenes")
    failures = pd.DataFrame(at_decision, columns=["failures", "reading"])
    counted = [(count, *_interval(group["reading"].to_numpy(), seed)) for count, group in failures.groupby("failures")]
    by_failures = pd.DataFrame(counted, columns=["failures", "reading", "ci_low", "ci_high", "n"])
    before, decision, after = np.array(phases).T
    parts = zip(("before", "decision", "passed"), (before, decision, after), strict=True)
    table = pd.DataFrame([(name, *_interval(values, seed)) for name, values in parts], columns=["phase", "reading", "ci_low", "ci_high", "n"])
    rise = float(spearmanr(by_failures["failures"], by_failures["reading"]).statistic) if len(by_failures) > 1 else 0.0
    return FailureTrace(by_failures, table, rise, float((decision - before).mean()), float((decision - after).mean()))


def _interval(values: np.ndarray, seed: int) -> tuple[float, float, float, int]:
    low, high = bootstrap_interval(values, seed=seed)
    return float(values.mean()), float(low), float(high), len(values)
