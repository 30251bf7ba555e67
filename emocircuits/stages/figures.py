"""figures: every figure of the run as pdf, svg and png with the numbers behind it."""

from emocircuits.figures import write_figures
from emocircuits.runs.stage import Output, Stage
from emocircuits.runs.workspace import Workspace


def work(workspace: Workspace) -> Output:
    """Writes `figures/`."""
    paths = write_figures(workspace.directory, workspace.path("figures"))
    return Output(tuple(path.relative_to(workspace.directory).as_posix() for path in paths))


STAGE = Stage(
    "figures",
    "draw the figures",
    ("directions", "sae", "match", "circuit", "evaluate", "steer"),
    lambda recipe: {},
    work,
)
