"""export: the circuits as files for the browser, Gephi, Graphviz, Neuronpedia and papers."""

from emocircuits.export import export_all
from emocircuits.io.documents import read_json
from emocircuits.pipeline.stage import Output, Stage
from emocircuits.pipeline.trust import with_scores
from emocircuits.pipeline.workspace import Workspace


def work(workspace: Workspace) -> Output:
    """Writes `export/<behaviour>.*`, one file per format; the graphs carry the scores of `evaluate`."""
    paths, scores = [], read_json(workspace.path("scores.json"))
    for name in workspace.recipe.behaviours:
        paths += export_all(with_scores(workspace.circuit(name), scores[name]), workspace.path("export"))
    return Output(tuple(path.relative_to(workspace.directory).as_posix() for path in paths))


STAGE = Stage("export", "write the circuits in every export format", ("circuit", "evaluate"),
              lambda recipe: {"behaviours": recipe.behaviours}, work)
