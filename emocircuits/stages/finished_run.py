"""A run to study: the one that lies in a directory, or one that is made there."""

from pathlib import Path

from emocircuits.errors import unknown
from emocircuits.runs.execute import MANIFEST, open_run, run_pipeline
from emocircuits.runs.recipe import Recipe, load_recipe
from emocircuits.runs.workspace import Workspace
from emocircuits.stages import STAGES


def finished_run(
    directory: str | Path,
    recipe: str | Path | Recipe | None = None,
    *,
    until: str = "report",
    trust_remote_code: bool = False,
) -> Workspace:
    """The run in a directory, done up to a stage. An older run is taken as it is; what is missing is made.

    Args:
        directory: the run directory.
        recipe: what to run where there is no run: a TOML file, an embedded recipe's name or its settings; the
            default recipe if None. A run that is there keeps its own.
        until: the last stage that is needed; the stages it needs are done, too.
        trust_remote_code: let the model directory run its own code.

    Raises:
        UserError: an unknown stage or recipe, or what `run_pipeline` refuses.
    """
    directory = Path(directory)
    if until not in STAGES:
        raise unknown("stage", until, STAGES.names())
    if (directory / MANIFEST).exists():
        settings, manifest = open_run(directory)
    else:
        settings, manifest = recipe if isinstance(recipe, Recipe) else load_recipe(recipe), None
    if manifest is None or until not in manifest.stages:
        manifest = run_pipeline(settings, directory, until=until, trust_remote_code=trust_remote_code)
    return Workspace(settings, directory, trust_remote_code, manifest)
