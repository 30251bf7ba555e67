"""report: `summary.json` and the page a colleague can read without us."""

from emocircuits.io.documents import write_json
from emocircuits.report import build_report
from emocircuits.report.summary import summarise_run
from emocircuits.runs.stage import Output, Stage
from emocircuits.runs.workspace import Workspace


def work(workspace: Workspace) -> Output:
    """Writes `summary.json` and `report.html`."""
    write_json(workspace.path("summary.json"), summarise_run(workspace))
    build_report(workspace.directory)
    return Output(("summary.json", "report.html"))


STAGE = Stage(
    "report",
    "write summary.json and report.html",
    (
        "plan",
        "collect",
        "directions",
        "sae",
        "match",
        "attribute",
        "circuit",
        "evaluate",
        "steer",
        "export",
        "figures",
    ),
    lambda recipe: recipe.to_dict(),
    work,
)
