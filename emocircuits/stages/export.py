"""export: the circuits as files for the browser, Gephi, Graphviz, Neuronpedia, tables and papers."""

from emocircuits.artifacts.run_evidence import with_scores
from emocircuits.export import export_all
from emocircuits.runs.run import Run
from emocircuits.runs.stage import Output, stage


@stage(
    "write the circuits in every export format",
    needs=("circuit", "evaluate", "steer"),
    settings=("behaviours",),
)
def export(run: Run) -> Output:
    """Writes `export/<behaviour>.*`, one file per format; graphs carry the scores, pages also the
    steering.
    """
    paths, refused, scores = [], [], run.scores
    for name in run.recipe.behaviours:
        done = export_all(
            with_scores(run.circuit(name), scores[name]), run.path("export"), evidence=run.evidence(name)
        )
        paths += done.paths
        refused += done.refused
    return Output(tuple(path.relative_to(run.directory).as_posix() for path in paths), tuple(refused))
