"""DOT for Graphviz, written by hand: everything quoted, one rank per layer, the grid as pinned positions."""

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.export.exporter import EXPORTERS, Exporter
from emocircuits.sanitise import sanitise_text
from emocircuits.viewer.layout import grid

SHAPES = {
    "feature": "ellipse",
    "error": "diamond",
    "token": "box",
    "target": "doubleoctagon",
    "component": "box",
}


def quote(text: str) -> str:
    """A DOT string: quotes and backslashes doubled up, so that no text is read as an escape or ends the
    string.
    """
    text = (
        sanitise_text(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", " ")
    )
    return f'"{text}"'


def render(graph: CircuitGraph) -> bytes:
    """DOT text. `dot` uses the ranks, `neato -n` the positions. Blue and dashed is negative, orange and solid
    positive.
    """
    layout = grid(graph)
    largest = max((abs(edge.weight) for edge in graph.edges), default=0.0) or 1.0
    lines = [
        f"digraph {quote(graph.behaviour)} {{",
        "  rankdir=BT;",
        '  node [fontname="Helvetica", fontsize=10];',
    ]
    for node in graph.nodes:
        x, y = layout.places[node.id]
        colour = "#888888" if not node.effect else "#D55E00" if node.effect > 0 else "#0072B2"
        lines.append(
            f"  {quote(node.id)} [label={quote(node.label or node.id)}, shape={SHAPES[node.kind]}, "
            f'color="{colour}", pos="{x:.3f},{y:.3f}!"];'
        )
    for row in layout.rows:
        if row.nodes:
            lines.append(f"  {{ rank=same; {' '.join(quote(name) + ';' for name in row.nodes)} }}")
    for edge in graph.edges:
        style = 'color="#0072B2", style=dashed' if edge.weight < 0 else 'color="#D55E00"'
        share = abs(edge.weight) / largest
        lines.append(
            f"  {quote(edge.source)} -> {quote(edge.target)} [weight={1 + round(9 * share)}, "
            f'effect="{edge.weight!r}", penwidth={0.5 + 3.5 * share:.2f}, {style}];'
        )
    return ("\n".join([*lines, "}"]) + "\n").encode()


EXPORTERS.add(Exporter("dot", "DOT for Graphviz", ".dot", render))
