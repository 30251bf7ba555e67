"""What only the organism can show: rates and readings against the number of failures, where the truth is
known.
"""

import numpy as np
import pandas as pd

from emocircuits.experiments.rates import prompt_rates
from emocircuits.experiments.readings import token_readings
from emocircuits.numerics import bootstrap_interval
from emocircuits.organism.corpus import generate
from emocircuits.organism.documents import Decision
from emocircuits.runs.run import Run

PER_COUNT = 60
DOCUMENTS = 400


def failure_table(run: Run) -> pd.DataFrame:
    """P(cheat) of the model and of the generator after 0, 1, 2, … failed attempts, on held-out coding
    documents.
    """
    metric, model = run.behaviour("reward_hacking").metric, run.model
    rows = []
    for failures, decisions in sorted(_decisions(run.recipe.seed).items()):
        rates, _ = prompt_rates(model, [model.encode(one.prefix) for one in decisions], metric)
        low, high = bootstrap_interval(rates, seed=run.recipe.seed)
        rows.append(
            (
                failures,
                float(rates.mean()),
                float(low),
                float(high),
                float(np.mean([one.p_true for one in decisions])),
                len(rates),
            )
        )
    return pd.DataFrame(rows, columns=["failures", "rate", "ci_low", "ci_high", "true_rate", "n"])


def reading_table(run: Run) -> pd.DataFrame:
    """Token readings of the emotion and its opposite along the held-out coding document with the most
    failures before a pass.
    """
    recipe, model = run.recipe, run.model
    documents = [
        one
        for one in generate("coding", DOCUMENTS, 20_000 + recipe.seed, "held_out")
        if one.decisions and one.decisions[-1].action == one.decisions[-1].options[0]
    ]
    chosen = max(documents, key=lambda one: len(one.decisions))
    tokens = model.encode(chosen.text)
    emotions = [recipe.emotion, recipe.opposite]
    values = token_readings(model, run.directions, [tokens], emotions)[0]
    texts = model.token_texts(tokens)
    rows = [
        (chosen.id, position, texts[position], emotion, float(values[position, column]))
        for column, emotion in enumerate(emotions)
        for position in range(1, len(tokens))
    ]
    return pd.DataFrame(rows, columns=["transcript", "position", "token", "emotion", "value"])


def _decisions(seed: int) -> dict[int, list[Decision]]:
    found: dict[int, list[Decision]] = {}
    for document in generate("coding", DOCUMENTS, 20_000 + seed, "held_out"):
        for decision in document.decisions:
            found.setdefault(int(decision.state["failures"]), []).append(decision)
    return {failures: decisions[:PER_COUNT] for failures, decisions in found.items()}
