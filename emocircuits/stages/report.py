"""report: `summary.json` and the page a colleague can read without us."""

from dataclasses import fields

from emocircuits.io.documents import write_json
from emocircuits.report import build_report
from emocircuits.report.summary import summarise_run
from emocircuits.runs.recipe import Recipe
from emocircuits.runs.run import Run
from emocircuits.runs.stage import Output, stage


@stage(
    "write summary.json and report.html",
    needs=(
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
    settings=tuple(item.name for item in fields(Recipe)),
)
def report(run: Run) -> Output:
    """Writes `summary.json` and `report.html`."""
    write_json(run.path("summary.json"), summarise_run(run))
    build_report(run.directory)
    return Output(("summary.json", "report.html"))
