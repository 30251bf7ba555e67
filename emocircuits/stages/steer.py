"""steer: dose–response of directions and controls, what carries it, and whether every match acts; on held-out
prompts.
"""

from functools import partial

import torch

from emocircuits.errors import UserError
from emocircuits.interventions.liveness import check_live
from emocircuits.interventions.steer import steer as steered
from emocircuits.io.documents import write_csv
from emocircuits.runs.run import Run
from emocircuits.runs.stage import Output, stage
from emocircuits.studies.steering import (
    causal_table,
    coherence_table,
    mediation_table,
    steering_curves,
)

FILES = ("steering.csv", "steering_slopes.csv", "coherence.csv", "mediation.csv", "causal.csv")


def check(run: Run) -> None:
    """The recipe's emotion is steered, and at some strength."""
    how = run.recipe.steer
    if run.recipe.emotion not in how.emotions:
        raise UserError(
            f"steer.emotions lacks '{run.recipe.emotion}'", expected="the recipe's emotion among them"
        )
    if not set(how.strengths) - {0.0}:
        raise UserError(f"steer.strengths is {list(how.strengths)}", expected="a strength other than 0")


@stage(
    "steering dose–response with controls, mediation, and a causal check of every match",
    needs=("plan", "collect", "directions", "sae", "match"),
    check=check,
    settings=("steer", "behaviours", "emotion", "opposite", "match.carrier_share"),
)
def steer(run: Run) -> Output:
    """Writes rates and log-odds at every strength, slopes with p-values, coherence, mediation and the causal
    check.
    """
    recipe, directions = run.recipe, run.directions
    emotions = [emotion for emotion in recipe.steer.emotions if emotion in directions.emotions]
    _check_live(run)
    doses, slopes = steering_curves(run, emotions)
    tables = (
        doses,
        slopes,
        run.keep("coherence", partial(coherence_table, run)),
        run.keep("mediation", partial(mediation_table, run)),
        causal_table(run, [recipe.emotion]),
    )
    for name, table in zip(FILES, tables, strict=True):
        write_csv(run.path(name), table)
    warnings = []
    own = slopes[(slopes["metric"] == "logit_diff") & (slopes["direction"] == recipe.emotion)]
    for line in own.itertuples():
        if line.p_value > 0.05:
            warnings.append(
                f"{line.behaviour}: steering along {recipe.emotion} is not significant against matched "
                f"random directions (p = {line.p_value:.3f})"
            )
    return Output(FILES, tuple(warnings))


def _check_live(run: Run) -> None:
    """The hook acts and leaves nothing behind, on one prompt, before anything is measured."""
    directions, emotion = run.directions, run.recipe.emotion
    pair = run.behaviour(run.recipe.behaviours[0]).pairs("score", 1)[0]
    tokens = torch.tensor([run.model.encode(pair.clean)], device=run.recipe.device)
    push = directions.push(emotion, 0.1, directions.steer_site)
    check_live(
        run.model.bridge,
        tokens,
        lambda: steered(run.model.bridge, push),
        f"steering at {directions.steer_site}",
    )
