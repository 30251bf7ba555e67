"""The model, and how often it does what was asked about without steering."""

from emocircuits.report.pictures import Pictures
from emocircuits.report.run_data import RunData
from emocircuits.report.tables import Cell, facts, table
from emocircuits.report.text import esc, interval

TITLE = "The model"


def build(run: RunData, pictures: Pictures) -> str:
    """Size, seed and hash; the rates on each side of the prompts, and their coverage."""
    digest = str(run.manifest["model"].get("content_hash", ""))
    about = [
        ("model", run.summary["model"]),
        ("parameters", run.summary["n_params"]),
        ("emotions", run.summary["emotions"]),
        ("seed", run.manifest["seed"]),
        ("content hash", Cell(f'<code title="{esc(digest)}">{esc(digest[:12])}…</code>')),
    ]
    rates = [
        [
            name.replace("_", " "),
            side,
            values.rate,
            Cell(interval(values.ci_low, values.ci_high), values.ci_low),
            values.true_rate,
            values.coverage,
            values.first_option,
        ]
        for name, scores in run.scores.items()
        for side, values in scores.rates.sides.items()
    ]
    heads = ["behaviour", "prompts", "rate", "95 % interval", "true rate", "coverage", "first option chosen"]
    # what this model or form has nothing of: the truth, or an order of options
    shown = [place for place in range(len(heads)) if any(row[place] is not None for row in rates)]
    rates = [[row[place] for place in shown] for row in rates]
    return facts(about) + table([heads[place] for place in shown], rates) + pictures.get("decision_failures")
