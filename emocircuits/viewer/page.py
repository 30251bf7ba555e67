"""The viewer as one self-contained page: works from `file://`, in an iframe and without network."""

# ruff: noqa: E501 (markup and scripts read better unbroken)

import html
import json
import re
from functools import cache
from importlib import resources
from typing import Any

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.artifacts.evidence import CircuitEvidence
from emocircuits.sanitise import sanitise_text
from emocircuits.viewer.data import viewer_data

# The viewer's modules, each after those it imports.
PARTS = (
    "words.js",
    "graph.js",
    "plots.js",
    "camera.js",
    "choose.js",
    "groups.js",
    "paint.js",
    "labels.js",
    "svgcontext.js",
    "stage.js",
    "prompt.js",
    "card.js",
    "overview.js",
    "paths.js",
    "dose.js",
    "subgraph.js",
    "table.js",
    "state.js",
    "save.js",
    "bar.js",
    "viewer.js",
    "widget.js",
)

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0; padding: 14px; background: #f3f3f0; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #0f1115; }} }}
@media (max-width: 560px) {{ body {{ padding: 8px; }} }}
{css}
</style></head>
<body><main id="circuit"></main>
<script type="application/json" id="circuit-data">{data}</script>
<script>
{script}
window.circuit = emocircuitsViewer.mount(document.getElementById("circuit"), JSON.parse(document.getElementById("circuit-data").textContent), {{ address: true }});
</script></body></html>
"""


@cache
def viewer_css() -> str:
    """The viewer's style sheet; every rule is below `.ec-viewer` or has the prefix `ec-`."""
    return _part("viewer.css")


@cache
def viewer_module() -> str:
    """The viewer as one ES module: its parts in order, without the imports between them."""
    return "\n".join(re.sub(r"^import .*?;\n", "", _part(name), flags=re.M | re.S) for name in PARTS)


@cache
def viewer_script() -> str:
    """The viewer as a classic script that defines `emocircuitsViewer`: a module would not load from
    `file://`.
    """
    body = viewer_module().replace("export default {", "const widget = {")
    body = re.sub(r"^export (?=function|const|let|class)", "", body, flags=re.M)
    return f"const emocircuitsViewer = (() => {{\n{body}\nreturn {{ mount, widget }};\n}})();"


def compact_json(value: Any) -> str:
    """JSON without spaces.

    Raises:
        ValueError: NaN or infinity.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def script_json(value: Any) -> str:
    """JSON that can stand inside a script element: no text in it can end the element or start a comment.

    Raises:
        ValueError: NaN or infinity.
    """
    text = compact_json(value)
    for char in ("<", ">", "&", "\u2028", "\u2029"):
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def page(graph: CircuitGraph, evidence: CircuitEvidence | None = None, *, title: str | None = None) -> str:
    """The whole page as text.

    Args:
        graph: the circuit.
        evidence: what the run measured around it (steering, controls, the corrupt prompt).
        title: title of the window.
    """
    heading = sanitise_text(title or f"Circuit of {graph.behaviour}")
    data = script_json(viewer_data(graph, evidence))
    return PAGE.format(title=html.escape(heading), css=viewer_css(), data=data, script=viewer_script())


def iframe(graph: CircuitGraph, evidence: CircuitEvidence | None = None, *, height: int = 900) -> str:
    """An iframe that holds the whole page, for notebooks and documentation."""
    label = html.escape(f"Circuit of {sanitise_text(graph.behaviour)}", quote=True)
    return (
        f'<iframe title="{label}" srcdoc="{html.escape(page(graph, evidence), quote=True)}" loading="lazy" '
        f'style="width:100%;height:{height}px;border:0"></iframe>'
    )


def _part(name: str) -> str:
    return (resources.files("emocircuits.viewer") / "js" / name).read_text(encoding="utf-8")
