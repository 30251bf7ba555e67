"""One feature of a circuit for an appendix: matched emotions, tokens it raises and lowers, its strongest
texts.
"""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from emocircuits.artifacts.circuit import CircuitGraph, Node
from emocircuits.artifacts.run_files import RunFiles
from emocircuits.errors import UserError
from emocircuits.figures.card import FIGURES, FigureCard, Missing, require
from emocircuits.figures.style import INK, MUTED, NEGATIVE, POSITIVE, literal, new_figure, widths
from emocircuits.limits import DASHBOARD_EXAMPLES, DASHBOARD_TOKENS, DASHBOARD_WORDS, SIGNIFICANCE
from emocircuits.sanitise import sanitise_text

COLUMNS = ("node", "part", "row", "place", "text", "value")
MONO, ADVANCE = "DejaVu Sans Mono", 0.602  # width of a character of that font, in font sizes


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """Left: matched emotions and logits; right: the strongest texts, tokens shaded by activation."""
    width = widths(venue)[1]
    figure = new_figure(width, 2.5)
    left, right = figure.subplots(1, 2, width_ratios=[1, 2.4])
    left.set_title(literal(table.node.iloc[0]), fontsize=7.5)
    _lists(left, table)
    _examples(right, table[table.part == "example"], 72 * width * 2.4 / 3.4)
    return figure


def _lists(axes: Axes, table: pd.DataFrame) -> None:
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    y = 0.97
    for part, title in (
        ("emotion", "Δf of the emotion"),
        ("top", "tokens it raises"),
        ("bottom", "tokens it lowers"),
    ):
        rows = table[table.part == part].sort_values("place").head(DASHBOARD_WORDS)
        if not len(rows):
            continue
        axes.text(0, y, title, fontsize=6.5, color=MUTED, va="top")
        y -= 0.075
        if part == "emotion":
            for row in rows.head(4).itertuples():
                axes.text(0.02, y, literal(row.text), fontsize=6.5, color=INK, va="top")
                axes.text(
                    0.98,
                    y,
                    f"{row.value:+.3g}".replace("-", "−"),
                    fontsize=6.5,
                    ha="right",
                    va="top",
                    color=POSITIVE if row.value > 0 else NEGATIVE,
                )
                y -= 0.075
        else:
            words = [sanitise_text(str(text)).strip() or "␣" for text in rows.text]
            for start in (0, 3):
                axes.text(
                    0.02,
                    y,
                    literal("  ".join(words[start : start + 3])),
                    fontsize=6.5,
                    color=INK,
                    va="top",
                )
                y -= 0.075
        y -= 0.03


def _examples(axes: Axes, rows: pd.DataFrame, points: float) -> None:
    size, line, gap = 6.0, 9.5, 4.0
    axes.set_axis_off()
    axes.set_title("texts in which it is most active", fontsize=7.5)
    top = float(rows.value.max()) or 1.0
    y, room = 0.0, points * 0.97
    for _, example in rows.groupby("row", sort=True):
        x = 0.0
        for row in example.sort_values("place").itertuples():
            text = sanitise_text(str(row.text)).replace("\n", "⏎")
            text = text if text[:1].isspace() or x == 0 else f" {text}" if example.bare.iloc[0] else text
            wide = ADVANCE * size * len(text)
            if x and x + wide > room:
                x, y, text = 0.0, y - line, text.lstrip()
                wide = ADVANCE * size * len(text)
            if row.value > 0:
                axes.add_patch(
                    Rectangle(
                        (x, y - line * 0.46),
                        wide,
                        line * 0.92,
                        color=POSITIVE,
                        alpha=0.08 + 0.55 * row.value / top,
                        lw=0,
                    )
                )
            axes.text(x, y, literal(text), fontsize=size, family=MONO, va="center_baseline", color=INK)
            x += wide
        y -= line + gap
    axes.set(xlim=(0, points), ylim=(min(y, -8 * line), line))


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """The strongest matched feature of `circuit_<behaviour>.json`; a circuit whose features have no texts is
    left out.
    """
    tables = {}
    for behaviour, circuit in require(run.circuits, "circuit_<behaviour>.json", "circuit").items():
        node = _chosen(circuit)
        if node is not None:
            tables[f"feature_dashboard_{behaviour}"] = _table(node)
    if not tables:
        raise Missing(
            "no feature of the run's circuits has example texts", cure="run the stage 'circuit' again"
        )
    return tables


def _chosen(circuit: CircuitGraph) -> Node | None:
    """The node of the largest effect among the features that match an emotion; without any, among all with
    texts.
    """
    shown = [node for node in circuit.nodes if node.kind == "feature" and node.details.get("examples")]
    matched = [node for node in shown if any(_sure(match) for match in node.details.get("emotions", ()))]
    return max(matched or shown, key=lambda node: abs(node.effect or 0.0), default=None)


def _sure(emotion: dict[str, Any]) -> bool:
    q = emotion.get("q_value")
    return q is not None and q <= SIGNIFICANCE


def _table(node: Node) -> pd.DataFrame:
    name, details, rows = node.label or node.id, node.details, []
    try:
        rows += [
            (name, "emotion", 0, number, match["emotion"], match["delta"], False)
            for number, match in enumerate(details.get("emotions", ()))
        ]
        for part in ("top", "bottom"):
            rows += [
                (name, part, 0, number, text, 0.0, False)
                for number, text in enumerate(details.get(f"{part}_tokens", ())[:DASHBOARD_WORDS])
            ]
        for row, example in enumerate(details["examples"][:DASHBOARD_EXAMPLES]):
            pairs = list(zip(example["tokens"], example["values"], strict=True))[-DASHBOARD_TOKENS:]
            bare = len(pairs) > 1 and not any(text[:1].isspace() for text, _ in pairs)
            rows += [
                (name, "example", row, number, text, value, bare)
                for number, (text, value) in enumerate(pairs)
            ]
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"the details of {node.id} are not whole ({error})", cure="run the stage 'circuit' again"
        ) from error
    return pd.DataFrame(rows, columns=[*COLUMNS, "bare"])


FIGURES.add(
    FigureCard(
        "feature_dashboard",
        "A feature of the circuit",
        "The matched feature with the largest effect: how much more active it is in stories of each emotion "
        "(Δf), the tokens its decoder raises and lowers most, and the texts in which it is most active, "
        "shaded by activation.",
        (*COLUMNS, "bare"),
        draw,
        load,
        optional=True,
    )
)
