"""figures: every figure of the run as pdf, svg and png with the numbers behind it."""

from emocircuits.figures import write_figures
from emocircuits.runs.run import Run
from emocircuits.runs.stage import Output, stage


@stage(
    "draw the figures",
    needs=("directions", "sae", "match", "circuit", "evaluate", "steer"),
)
def figures(run: Run) -> Output:
    """Writes `figures/`."""
    paths = write_figures(run.directory, run.path("figures"), processes=run.recipe.threads)
    return Output(tuple(path.relative_to(run.directory).as_posix() for path in paths))
