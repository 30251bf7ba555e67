"""export: the circuits as files for the browser, Gephi, Graphviz, Neuronpedia, tables and papers."""

from emocircuits.export import export_all
from emocircuits.figures.card import RunTables
from emocircuits.io.documents import read_json
from emocircuits.runs.evidence import run_evidence
from emocircuits.runs.stage import Output, Stage
from emocircuits.runs.trust import with_scores
from emocircuits.runs.workspace import Workspace


def work(workspace: Workspace) -> Output:
    """Writes `export/<behaviour>.*`, one file per format; graphs carry the scores, pages also the
    steering.
    """
    paths, refused, scores = [], [], read_json(workspace.path("scores.json"))
    for name in workspace.recipe.behaviours:
        evidence = run_evidence(RunTables(workspace.directory), name)
        done = export_all(
            with_scores(workspace.circuit(name), scores[name]), workspace.path("export"), evidence=evidence
        )
        paths += done.paths
        refused += done.refused
    return Output(tuple(path.relative_to(workspace.directory).as_posix() for path in paths), tuple(refused))


STAGE = Stage(
    "export",
    "write the circuits in every export format",
    ("circuit", "evaluate", "steer"),
    lambda recipe: {"behaviours": recipe.behaviours},
    work,
)
