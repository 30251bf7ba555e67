"""The part of the report on where a push runs: straight onto the tokens, or through deeper computation."""

# ruff: noqa: E501 (markup and scripts read better unbroken)

import pandas as pd

from emocircuits.figures import RunTables
from emocircuits.report.run_data import RunData
from emocircuits.report.tables import Cell, esc, frame, interval, number, table
from emocircuits.studies.trace_verdict import ROUTES, route_verdict


def trace(run: RunData, pictures: dict[str, str]) -> str:
    """One sentence and one table per behaviour, with the same for every control."""
    files = RunTables(run.directory)
    rows = files.csv("trace.csv")
    if rows is None or rows.empty:
        return "<p>This run has no <code>trace.csv</code>; run the stage <code>circuit</code> again.</p>"
    blocks = []
    for name, group in rows.groupby("behaviour", sort=False):
        blocks.append(
            f"<h3>{esc(str(name).replace('_', ' '))}</h3><p>{esc(route_verdict(group, run.emotion))}</p>{_routes(group)}"
        )
    paths, shared = files.csv("paths.csv"), files.json("overlap.json")
    return (
        "<p>A push along the direction is read by the unembedding directly (a push on the tokens), and by the attention and MLPs of later blocks (deeper computation). "
        "The amounts are integrated over the strength and add up to the whole effect; <i>remainder</i> is what the integration misses. "
        "In the real interventions only the logits see the push, or everything but the logits.</p>"
        + pictures.get("trace", "")
        + "".join(blocks)
        + _paths(paths)
        + _overlap(shared)
    )


def _routes(rows: pd.DataFrame) -> str:
    """A row per direction, a column per route, with shares."""
    lines = []
    for (kind, direction), group in rows.groupby(["kind", "direction"], sort=False):
        cells = group.set_index(["split", "part"])
        line: list[object] = [direction, kind, _cell(cells, "whole", "whole", share=False)]
        line += [_cell(cells, "routes", route) for route in ROUTES]
        line += [_cell(cells, "real", "only the logits see the push")]
        lines.append(line)
    heads = ["direction", "kind", "whole effect", *ROUTES, "real: only the logits see it"]
    return table(heads, lines, tall=True)


def _cell(cells: pd.DataFrame, split: str, part: str, *, share: bool = True) -> Cell | str:
    if (split, part) not in cells.index:
        return "–"
    row = cells.loc[(split, part)]
    said = f"{number(row['amount'], sign=True)} <small>{interval(row['ci_low'], row['ci_high'])}"
    return Cell(
        said + (f" · {row['share']:.0%}" if share and pd.notna(row["share"]) else "") + "</small>",
        float(row["amount"]),
    )


def _paths(paths: pd.DataFrame | None) -> str:
    if paths is None or paths.empty:
        return ""
    heads = {
        "behaviour": "behaviour",
        "path": "path",
        "amount": "amount",
        "share_of_source": "share of its source",
        "share_of_change": "share of the metric's change",
    }
    return (
        "<h3>Strongest paths</h3><p>From the matched features of the circuit to the metric; what leaves a node goes on in the proportions of its edges, "
        "so shares above 1 or below 0 mean that paths cancel.</p>"
        + frame(paths[list(heads)], heads, tall=True)
    )


def _overlap(shared: dict | None) -> str:
    pairs = (shared or {}).get("pairs", [])
    if not pairs:
        return ""
    lines = [
        [
            f"{one['first']} / {one['second']}".replace("_", " "),
            one["shared"],
            one["jaccard"],
            one["chance_jaccard"],
            one["p_value"],
            one["effect_correlation"],
            one["candidates"],
        ]
        for one in pairs
    ]
    heads = [
        "behaviours",
        "shared nodes",
        "Jaccard",
        "by chance",
        "p",
        "correlation of effects",
        "candidates in common",
    ]
    return "<h3>What the circuits have in common</h3>" + table(heads, lines)
