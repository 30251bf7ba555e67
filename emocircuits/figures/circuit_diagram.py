"""The circuit on the viewer's grid: rows are layers, columns tokens, orange raises the metric, blue and
dashed lowers it.
"""

from itertools import pairwise

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Curve
from matplotlib.patheffects import withStroke

from emocircuits.artifacts.circuit import CircuitGraph, Edge, Node
from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.card import FIGURES, FigureCard, require
from emocircuits.figures.style import (
    INK,
    MUTED,
    NEGATIVE,
    NEUTRAL,
    POSITIVE,
    literal,
    new_figure,
    widths,
)
from emocircuits.limits import PICTURE_LABELS, PICTURE_NODES
from emocircuits.sanitise import sanitise_text
from emocircuits.viewer.layout import grid
from emocircuits.viewer.strongest import strongest_part

COLUMNS = ("record", "id", "target", "label", "effect", "ci_low", "ci_high")


def draw_graph(graph: CircuitGraph, venue: str = "page") -> Figure:
    """Draws a circuit (at most 40 nodes read well)."""
    layout = grid(graph)
    width = widths(venue)[1]
    foot = 1.0 if layout.columns else 0.0
    unit = (width - 0.75) / max(layout.width, 4.0)
    tall = min(0.62, max(0.3, unit * 1.3))
    figure = new_figure(width, max(1.6, tall * layout.height + 0.62 * foot + 0.15), layout=None)
    axes = figure.add_axes((0, 0, 1, 1))
    # one data unit is one inch, so circles are round and text offsets are honest
    axes.set_xlim(0, width)
    axes.set_ylim(0, figure.get_figheight())
    axes.axis("off")
    left, low = 0.7 + max(0.0, (width - 0.75 - unit * layout.width) / 2), 0.62 * foot + 0.05
    at = {name: (left + x * unit, low + y * tall) for name, (x, y) in layout.places.items()}
    for i, row in enumerate(layout.rows):
        if i % 2 == 0:
            axes.axhspan(low + row.low * tall, low + row.high * tall, color="#F6F6F3", lw=0, zorder=0)
        axes.text(
            0.62,
            low + (row.low + row.high) / 2 * tall,
            row.label,
            ha="right",
            va="center",
            fontsize=7,
            color=MUTED,
        )
    named = [
        (left + (column.low + column.high) / 2 * unit, len(_token(column.label)))
        for column in layout.columns
        if column.nodes
    ]
    abreast = all(
        (long + other) / 2 * 0.07 + 0.04 < there - here for (here, long), (there, other) in pairwise(named)
    )
    for column in layout.columns:
        x, room = left + (column.low + column.high) / 2 * unit, (column.high - column.low) * unit
        text = _token(column.label)
        if column.nodes or room > 0.11:
            flat = abreast if column.nodes else len(text) * 0.062 < room
            axes.text(
                x,
                low - 0.05,
                literal(text),
                rotation=0 if flat else 90,
                ha="center",
                va="top",
                fontsize=6.5,
                color=INK if column.nodes else MUTED,
                fontweight="bold" if column.nodes else "normal",
            )
    largest = max((abs(edge.weight) for edge in graph.edges), default=0.0) or 1.0
    for edge in sorted(graph.edges, key=lambda edge: abs(edge.weight)):
        axes.add_patch(_curve(at[edge.source], at[edge.target], edge, largest))
    top = max((abs(node.effect or 0.0) for node in graph.nodes), default=0.0) or 1.0
    radii = {node.id: _radius(node, top, min(unit, tall)) for node in graph.nodes}
    for node in graph.nodes:
        axes.add_patch(_shape(node, at[node.id], radii[node.id]))
    _labels(axes, graph, at, radii, width)
    return figure


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """The diagram from a tidy table: rows with record `node`, `link` and `token`."""
    nodes = tuple(
        Node.of(
            row.id,
            label=row.label,
            effect=_value(row.effect),
            ci_low=_value(row.ci_low),
            ci_high=_value(row.ci_high),
        )
        for row in table[table.record == "node"].itertuples()
    )
    edges = tuple(
        Edge(row.id, row.target, row.effect, _value(row.ci_low), _value(row.ci_high))
        for row in table[table.record == "link"].itertuples()
    )
    tokens = tuple(table[table.record == "token"].label)
    return draw_graph(CircuitGraph("figure", nodes, edges, tokens=tokens), venue)


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """One table per behaviour: the example circuit's strongest nodes."""
    tables = {}
    for name, graph in require(run.circuits, "circuit_<behaviour>.json", "circuit").items():
        shown = strongest_part(graph.example or graph, PICTURE_NODES)
        rows = [
            (
                "node",
                node.id,
                "",
                sanitise_text(node.label or node.id),
                node.effect,
                node.ci_low,
                node.ci_high,
            )
            for node in shown.nodes
        ]
        rows += [
            ("link", edge.source, edge.target, "", edge.weight, edge.ci_low, edge.ci_high)
            for edge in shown.edges
        ]
        rows += [
            ("token", f"token/p{i}", "", sanitise_text(text), None, None, None)
            for i, text in enumerate(shown.tokens)
        ]
        tables[f"circuit_{name}"] = pd.DataFrame(rows, columns=list(COLUMNS))
    return tables


def _value(number: float | None) -> float | None:
    return None if number is None or pd.isna(number) else float(number)


def _token(text: str) -> str:
    shown = sanitise_text(text).replace("\n", "↵").strip() or "␣"
    return shown if len(shown) <= 9 else shown[:8] + "…"


def _colour(value: float | None) -> str:
    return NEUTRAL if not value else POSITIVE if value > 0 else NEGATIVE


def _radius(node: Node, top: float, unit: float) -> float:
    room = min(0.14, 0.36 * unit)
    return {"token": 0.45 * room, "target": room}.get(
        node.kind, room * (0.4 + 0.6 * (abs(node.effect or 0.0) / top) ** 0.5)
    )


def _clear(item: Node | Edge) -> bool:
    return item.ci_low is None or item.ci_high is None or item.ci_low > 0 or item.ci_high < 0


def _shape(node: Node, at: tuple[float, float], r: float) -> Circle | Polygon | FancyBboxPatch:
    x, y = at
    colour = INK if node.kind == "target" else _colour(node.effect)
    look = {
        "facecolor": colour if _clear(node) and node.kind != "error" else "white",
        "edgecolor": colour,
        "linewidth": 0.9,
        "zorder": 3,
    }
    if node.kind == "error":
        return Polygon([(x, y - r), (x + r, y), (x, y + r), (x - r, y)], **look)
    if node.kind in ("token", "component", "target"):
        wide = 1.5 * r if node.kind == "target" else r
        return FancyBboxPatch(
            (x - wide, y - r), 2 * wide, 2 * r, boxstyle=f"round,pad=0,rounding_size={0.6 * r}", **look
        )
    return Circle(at, r, **look)


def _curve(a: tuple[float, float], b: tuple[float, float], edge: Edge, largest: float) -> PathPatch:
    bend = max(0.1, 0.45 * abs(b[1] - a[1]))
    path = Curve(
        [a, (a[0], a[1] + bend), (b[0], b[1] - bend), b],
        [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4],
    )
    share = (abs(edge.weight) / largest) ** 0.5
    return PathPatch(
        path,
        fill=False,
        edgecolor=_colour(edge.weight),
        linewidth=0.35 + 2.4 * share,
        zorder=1,
        capstyle="butt",
        alpha=(0.2 + 0.65 * share) * (1 if _clear(edge) else 0.45),
        linestyle=(0, (3, 1.6)) if edge.weight < 0 else "-",
    )


def _labels(axes, graph: CircuitGraph, at: dict, radii: dict, width: float) -> None:
    """Labels next to the strongest nodes; one that finds no free place is left out."""
    taken = [
        (x - radii[name], y - radii[name], x + radii[name], y + radii[name], name)
        for name, (x, y) in at.items()
    ]
    order = sorted(
        (n for n in graph.nodes if n.kind not in ("token", "error")),
        key=lambda n: (n.kind != "target", -abs(n.effect or 0.0)),
    )
    for node in order[:PICTURE_LABELS]:
        text = sanitise_text(node.label or node.id)
        text = text if len(text) <= 24 else text[:23] + "…"
        (x, y), r, w = at[node.id], radii[node.id] * (1.5 if node.kind == "target" else 1), 0.058 * len(text)
        for tx, ty, align in (
            (x + r + 0.05, y, "left"),
            (x, y + r + 0.075, "center"),
            (x - r - 0.05, y, "right"),
            (x, y - r - 0.075, "center"),
        ):
            start = tx if align == "left" else tx - w if align == "right" else tx - w / 2
            box = (start, ty - 0.055, start + w, ty + 0.055)
            if (
                start < 0.7
                or box[2] > width - 0.02
                or any(
                    t[4] != node.id and t[0] < box[2] and t[2] > box[0] and t[1] < box[3] and t[3] > box[1]
                    for t in taken
                )
            ):
                continue
            taken.append((*box, None))
            axes.text(
                tx,
                ty,
                literal(text),
                ha=align,
                va="center",
                fontsize=6.5,
                zorder=4,
                fontweight="bold" if node.kind == "target" else "normal",
                path_effects=[withStroke(linewidth=2.2, foreground="white")],
            )
            break


FIGURES.add(
    FigureCard(
        "circuit",
        "Circuit",
        "The strongest nodes and links on one prompt. Orange raises the metric, blue and dashed lowers it; "
        "hollow: the interval includes zero; diamonds: what the SAE leaves unexplained.",
        COLUMNS,
        draw,
        load,
    )
)
