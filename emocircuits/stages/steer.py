"""steer: dose–response of directions and controls, what carries it, and whether every match acts; on held-out
prompts.
"""

import torch

from emocircuits.errors import UserError
from emocircuits.interventions.liveness import check_live
from emocircuits.interventions.steer import steer
from emocircuits.io.documents import write_csv
from emocircuits.runs.stage import Output, Stage
from emocircuits.runs.workspace import Workspace
from emocircuits.studies.steering_tables import SteerRun, dose_table

FILES = ("steering.csv", "steering_slopes.csv", "coherence.csv", "mediation.csv", "causal.csv")


def work(workspace: Workspace) -> Output:
    """Writes rates and log-odds at every strength, slopes with p-values, coherence, mediation and the causal
    check.
    """
    recipe, directions, run = workspace.recipe, workspace.directions(), SteerRun(workspace)
    emotions = [emotion for emotion in recipe.steer.emotions if emotion in directions.emotions]
    if recipe.emotion not in emotions:
        raise UserError(
            f"steer.emotions lacks '{recipe.emotion}'", expected="the recipe's emotion among them"
        )
    _check_live(workspace, run.site)
    found = run.dose_response(emotions)
    tables = (
        dose_table(found),
        found.slopes,
        run.coherence(),
        run.mediation(),
        run.causal_check([recipe.emotion]),
    )
    for name, table in zip(FILES, tables, strict=True):
        write_csv(workspace.path(name), table)
    warnings = []
    slopes = found.slopes[
        (found.slopes["metric"] == "logit_diff") & (found.slopes["direction"] == recipe.emotion)
    ]
    for line in slopes.itertuples():
        if line.p_value > 0.05:
            warnings.append(
                f"{line.behaviour}: steering along {recipe.emotion} is not significant against matched "
                f"random directions (p = {line.p_value:.3f})"
            )
    return Output(FILES, tuple(warnings))


def _check_live(workspace: Workspace, site: str) -> None:
    """The hook acts and leaves nothing behind, on one prompt, before anything is measured."""
    directions, emotion = workspace.directions(), workspace.recipe.emotion
    pair = workspace.behaviour(workspace.recipe.behaviours[0]).pairs("score", 1)[0]
    tokens = torch.tensor([workspace.model.encode(pair.clean)], device=workspace.recipe.device)
    push = directions.push(emotion, 0.1, site)
    check_live(
        workspace.model.bridge,
        tokens,
        lambda: steer(workspace.model.bridge, push),
        f"steering at {site}",
    )


STAGE = Stage(
    "steer",
    "steering dose–response with controls, mediation, and a causal check of every match",
    ("plan", "collect", "directions", "sae", "match"),
    lambda recipe: {
        "steer": recipe.to_dict()["steer"],
        "behaviours": recipe.behaviours,
        "emotion": recipe.emotion,
        "opposite": recipe.opposite,
        "carrier_share": recipe.match.carrier_share,
    },
    work,
)
