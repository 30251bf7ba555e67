"""Where a push runs: straight onto the tokens, or through deeper computation."""

from typing import Any

import pandas as pd

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.report.pictures import Pictures
from emocircuits.report.run_data import RunData
from emocircuits.report.tables import Cell, frame, table
from emocircuits.report.text import esc, interval, number, words
from emocircuits.studies.trace_verdict import ROUTES, route_verdict

TITLE = "From the emotion to the tokens"
PATH_HEADS = {
    "behaviour": "behaviour",
    "path": "path",
    "amount": "amount",
    "share_of_source": "share of its source",
    "share_of_change": "share of the metric's change",
}
OVERLAP_HEADS = (
    "behaviours",
    "shared nodes",
    "Jaccard",
    "by chance",
    "p",
    "correlation of effects",
    "candidates in common",
)


def build(run: RunData, pictures: Pictures) -> str:
    """One sentence and one table per behaviour, with the same for every control."""
    files = RunFiles(run.directory)
    rows = files.table("trace.csv")
    if rows is None or rows.empty:
        return "<p>This run has no <code>trace.csv</code>; run the stage <code>circuit</code> again.</p>"
    blocks = [
        f"<h3>{words(str(name))}</h3><p>{esc(route_verdict(group, run.emotion))}</p>{_routes(group)}"
        for name, group in rows.groupby("behaviour", sort=False)
    ]
    return (
        "<p>A push along the direction is read by the unembedding directly (a push on the tokens), and by "
        "the attention and MLPs of later blocks (deeper computation). The amounts are integrated over the "
        "strength and add up to the whole effect; <i>remainder</i> is what the integration misses. In the "
        "real interventions only the logits see the push, or everything but the logits.</p>"
        + pictures.get("trace")
        + "".join(blocks)
        + _paths(files.table("paths.csv"))
        + _overlap(files.document("overlap.json"))
    )


def _routes(rows: pd.DataFrame) -> str:
    """A row per direction, a column per route, with shares."""
    lines = []
    for (kind, direction), group in rows.groupby(["kind", "direction"], sort=False):
        amounts = group.set_index(["split", "part"])
        line: list[object] = [direction, kind, _amount(amounts, "whole", "whole", share=False)]
        line += [_amount(amounts, "routes", route) for route in ROUTES]
        line += [_amount(amounts, "real", "only the logits see the push")]
        lines.append(line)
    heads = ["direction", "kind", "whole effect", *ROUTES, "real: only the logits see it"]
    return table(heads, lines, tall=True)


def _amount(amounts: pd.DataFrame, split: str, part: str, *, share: bool = True) -> Cell | str:
    if (split, part) not in amounts.index:
        return "–"
    row = amounts.loc[(split, part)]
    percent = f" · {row['share']:.0%}" if share and pd.notna(row["share"]) else ""
    between = f"<small>{interval(row['ci_low'], row['ci_high'])}{percent}</small>"
    return Cell(f"{number(row['amount'], sign=True)} {between}", float(row["amount"]))


def _paths(paths: pd.DataFrame | None) -> str:
    if paths is None or paths.empty:
        return ""
    return (
        "<h3>Strongest paths</h3><p>From the matched features of the circuit to the metric; what leaves a "
        "node is divided in the proportions of its edges, so shares above 1 or below 0 mean that paths "
        "cancel.</p>" + frame(paths, PATH_HEADS, tall=True)
    )


def _overlap(overlap: dict[str, Any] | None) -> str:
    pairs = (overlap or {}).get("pairs", [])
    if not pairs:
        return ""
    lines = [
        [
            f"{pair['first']} / {pair['second']}".replace("_", " "),
            pair["shared"],
            pair["jaccard"],
            pair["chance_jaccard"],
            pair["p_value"],
            pair["effect_correlation"],
            pair["candidates"],
        ]
        for pair in pairs
    ]
    return "<h3>What the circuits have in common</h3>" + table(OVERLAP_HEADS, lines)
