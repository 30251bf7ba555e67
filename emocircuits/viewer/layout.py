"""The one layout of viewer, SVG, GEXF and DOT: x is the token position, y is the layer.

Coordinates are in node pitches: neighbours in a cell are 1 apart. y grows upwards: tokens below, the metric
on top. A circuit without positions is one wide column whose nodes stand side by side, strongest in the
middle.
"""

from dataclasses import dataclass
from itertools import groupby

from emocircuits.artifacts.circuit import CircuitGraph, Node

# most of a token column without nodes; all of them together take a fifth of the width at most
EMPTY_COLUMN = 0.35
COLUMN_GAP = 0.35
ROW_GAP = 0.9
# nodes side by side in a cell before it wraps: among token columns, and without positions
ABREAST, ABREAST_ALONE = 4, 24

_SUBLAYER = {"resid_pre": 0, "attn_out": 1, "resid_mid": 2, "mlp_out": 3, "resid_post": 4}
_BOTTOM, _TOP = (-1, 0), (10**9, 0)


@dataclass(frozen=True)
class Band:
    """A row or a column of the grid: label, extent, and the nodes inside in order."""

    label: str
    low: float
    high: float
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """Where everything is. `columns` are token positions (empty without positions); `rows` go from bottom to
    top.
    """

    places: dict[str, tuple[float, float]]
    columns: tuple[Band, ...]
    rows: tuple[Band, ...]
    width: float
    height: float


def rank(node: Node) -> tuple[int, int]:
    """Order of computation: tokens first, then per layer attention, MLP, residual stream, and the metric
    last.
    """
    if node.kind in ("token", "target"):
        return _BOTTOM if node.kind == "token" else _TOP
    if node.site is not None:
        return node.layer, _SUBLAYER[node.site.split("hook_")[1]]
    return _BOTTOM if node.layer is None else (node.layer, 1 if node.id.startswith("a") else 3)


def row_label(node: Node) -> str:
    """What stands at the left of a row."""
    if node.kind in ("token", "target") or node.layer is None:
        return "metric" if node.kind == "target" else "tokens"
    part = {1: " attn", 2: " mid", 3: " mlp", 0: " pre", 4: ""}[rank(node)[1]]
    return f"layer {node.layer}{part}"


def grid(graph: CircuitGraph) -> Grid:
    """Places every node of a circuit."""
    positioned = any(node.position is not None for node in graph.nodes)
    abreast = ABREAST if positioned else ABREAST_ALONE
    last = max(
        [len(graph.tokens) - 1, *(node.position for node in graph.nodes if node.position is not None)],
        default=0,
    )
    column_of = {
        node.id: (last if node.position is None else node.position) if positioned else 0
        for node in graph.nodes
    }
    cells: dict[tuple[int, tuple[int, int]], list[Node]] = {}
    for node in graph.nodes:
        cells.setdefault((column_of[node.id], rank(node)), []).append(node)
    for key, members in cells.items():
        cells[key] = _middle_out(members)
    widths = {
        column: max(min(len(m), abreast) for (c, _), m in cells.items() if c == column)
        for column in {c for c, _ in cells}
    }
    depths = {
        level: max(-(-len(m) // abreast) for (_, r), m in cells.items() if r == level)
        for level in {r for _, r in cells}
    }
    left, columns = 0.0, []
    used = sum(width + COLUMN_GAP for width in widths.values())
    empty = min(EMPTY_COLUMN, used / 4 / max(1, last + 1 - len(widths)))
    for column in range(last + 1 if positioned else 1):
        width = widths[column] + COLUMN_GAP if column in widths else empty
        columns.append((left, left + width))
        left += width
    base, rows = 0.0, {}
    for level in sorted(depths):
        rows[level] = (base, base + depths[level] + ROW_GAP)
        base = rows[level][1]
    places = {}
    for (column, level), members in cells.items():
        middle = sum(columns[column]) / 2
        lines = [members[i : i + abreast] for i in range(0, len(members), abreast)]
        for line, row in enumerate(lines):
            y = sum(rows[level]) / 2 + (len(lines) - 1) / 2 - line
            for slot, node in enumerate(row):
                places[node.id] = (middle + slot - (len(row) - 1) / 2, y)
    ordered = sorted(graph.nodes, key=rank)
    row_bands = tuple(
        Band(row_label((group := list(members))[0]), *rows[level], tuple(node.id for node in group))
        for level, members in groupby(ordered, key=rank)
    )
    column_bands = (
        tuple(
            Band(
                graph.tokens[i] if i < len(graph.tokens) else str(i),
                low,
                high,
                tuple(node.id for node in graph.nodes if column_of[node.id] == i),
            )
            for i, (low, high) in enumerate(columns)
        )
        if positioned
        else ()
    )
    return Grid(
        places={node.id: places[node.id] for node in graph.nodes},
        columns=column_bands,
        rows=row_bands,
        width=left,
        height=base,
    )


def _middle_out(members: list[Node]) -> list[Node]:
    """Strongest in the middle, weaker to the sides; SAE errors at the right end."""
    ordered = sorted(members, key=lambda node: (node.kind == "error", -abs(node.effect or 0.0), node.id))
    plain = [node for node in ordered if node.kind != "error"]
    return plain[1::2][::-1] + plain[0::2] + [node for node in ordered if node.kind == "error"]
