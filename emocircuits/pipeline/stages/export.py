"""export: the circuits as files for the browser, Gephi, Graphviz, Neuronpedia and papers."""

from emocircuits.export import export_all
from emocircuits.pipeline.stage import Output, Stage
from emocircuits.pipeline.workspace import Workspace


def work(workspace: Workspace) -> Output:
    """Writes `export/<behaviour>.*`, one file per format."""
    paths = []
    for name in workspace.recipe.behaviours:
        paths += export_all(workspace.circuit(name), workspace.path("export"))
    return Output(tuple(path.relative_to(workspace.directory).as_posix() for path in paths))


STAGE = Stage("export", "write the circuits in every export format", ("circuit",),
              lambda recipe: {"behaviours": recipe.behaviours}, work)
