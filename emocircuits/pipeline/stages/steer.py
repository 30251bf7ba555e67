"""steer: dose–response of emotion directions and of every control, on prompts without pressure."""

from emocircuits.errors import UserError
from emocircuits.experiments.steered import steering_directions
from emocircuits.experiments.steering import BehaviourPrompts, dose_response
from emocircuits.io.documents import write_csv
from emocircuits.pipeline.prompts import unpressed_prompts
from emocircuits.pipeline.stage import Output, Stage
from emocircuits.pipeline.workspace import Workspace

KEYS = ["direction", "kind", "strength", "behaviour"]


def work(workspace: Workspace) -> Output:
    """Writes `steering.csv` (rate and log-odds at every strength) and `steering_slopes.csv` (slope and p-value per direction)."""
    recipe, model, directions = workspace.recipe, workspace.model, workspace.directions()
    settings = recipe.steer
    emotions = [emotion for emotion in settings.emotions if emotion in directions.emotions]
    if recipe.emotion not in emotions:
        raise UserError(f"steer.emotions lacks '{recipe.emotion}'", expected="the recipe's emotion among them")
    site, warnings = directions.steer_site, []
    prompts = []
    for name in recipe.behaviours:
        bound = workspace.behaviour(name)
        texts = [text for text, _ in unpressed_prompts(bound.pairs("score", settings.prompts))][:settings.prompts]
        prompts.append(BehaviourPrompts(name, tuple(tuple(model.encode(text)) for text in texts), bound.metric))
    found = dose_response(model, prompts, steering_directions(directions, emotions), site=site, residual_norm=directions.scale(site),
                          strengths=settings.strengths, seed=recipe.seed)
    rates, logits = (found.table[found.table["metric"] == metric].drop(columns="metric") for metric in ("rate", "logit_diff"))
    logits = logits.rename(columns={"value": "logit_diff", "ci_low": "logit_diff_ci_low", "ci_high": "logit_diff_ci_high"})
    table = rates.rename(columns={"value": "rate"}).merge(logits.drop(columns="n"), on=KEYS)
    write_csv(workspace.path("steering.csv"), table)
    write_csv(workspace.path("steering_slopes.csv"), found.slopes)
    slopes = found.slopes[(found.slopes["metric"] == "logit_diff") & (found.slopes["direction"] == recipe.emotion)]
    for line in slopes.itertuples():
        if line.p_value > 0.05:
            warnings.append(f"{line.behaviour}: steering along {recipe.emotion} is not significant against matched random "
                            f"directions (p = {line.p_value:.3f})")
    return Output(("steering.csv", "steering_slopes.csv"), tuple(warnings))


STAGE = Stage("steer", "steering dose–response with random, content and shuffled controls", ("plan", "directions"),
              lambda recipe: {"steer": recipe.to_dict()["steer"], "behaviours": recipe.behaviours, "emotion": recipe.emotion}, work)
