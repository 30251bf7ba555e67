"""Live circuits of finished runs: one self-contained page each, and the Markdown that shows them with their
numbers.
"""

# ruff: noqa: E501 (prose reads better unbroken)

import html
import json
from pathlib import Path

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.artifacts.evidence import CircuitEvidence
from emocircuits.artifacts.run_evidence import run_circuits
from emocircuits.export import EXPORTERS

FRAME = """```{{raw}} html
<div class="circuit-frame"><iframe src="_static/circuits/{name}.html" title="{title}" {loading} style="height:{height}px"></iframe>
<p class="circuit-links"><a href="_static/circuits/{name}.html">Open on its own page</a>
<a href="_static/circuits/{name}.json" download>Circuit as JSON</a>
<a href="_static/circuits/{name}.graphml" download>GraphML</a></p></div>
```
"""
FORMATS = ("html", "json", "graphml")


def write_circuits(runs: list[Path], folder: Path) -> dict[str, str]:
    """Writes the pages of every circuit of the runs; returns Markdown by file name: the start page's part and
    the gallery.
    """
    sections = []
    start = None
    for run in runs:
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        for behaviour, (graph, evidence) in run_circuits(run).items():
            name = f"{run.name}-{behaviour}"
            for form in FORMATS:
                put(folder / f"{name}.{form}", EXPORTERS.get(form).data(graph, evidence))
            numbers = summary["behaviours"][behaviour]
            start = start or start_part(name, graph, evidence, numbers)
            sections.append(gallery_part(name, run.name, graph, evidence, numbers, summary))
    return {"parts/start.md": start, "parts/gallery.md": "\n".join(sections)}


def start_part(name: str, graph: CircuitGraph, evidence: CircuitEvidence, numbers: dict) -> str:
    """The live circuit of the start page and what it shows, in words that follow from its numbers."""
    emotion, shown = evidence.emotion, said(graph.behaviour)
    features = [node for node in graph.nodes if node.kind == "feature"]
    low, high = "orange links raise, blue dashed links lower", "the last token, at which the model decides"
    lines = [
        frame(name, graph, 1120, eager=True),
        f"**What you see.** The model `{evidence.model}` has read a prompt and is about to choose a word. Each column is a word of "
        f"the prompt, each row a layer of the model; the dots are {len(features)} *features*, directions that a sparse autoencoder "
        f"found inside the model. On top stands the metric: how much more likely the words of *{shown}* are than the honest ones. "
        f"Links say how much of the difference between {emotion} and calm circumstances runs from one dot to the next: {low} it. "
        f"Read it from bottom to top; most of it happens over {high}.",
        f"**What is claimed.** Features that match the emotion *{emotion}* are part of the circuit "
        f"({numbers['desperation_features']} of them). With everything outside the circuit cut off, {percent(numbers['faithfulness'])} "
        f"of the effect on held-out prompts is left; random circuits of the same size keep "
        f"{percent(numbers['random_circuit_faithfulness'])}. Pushing the whole model along *{emotion}* changes the log-odds by "
        f"{number(numbers['desperate_steering_slope'])} per unit of strength (p = {number(numbers['p_value'])} against random "
        f"directions of the same length).",
        "**Try it.** Click a dot: its card says which emotions it matches, in which texts it is active, and what happened when it "
        "was really changed. Switch *Effects along* to a random direction: what disappears was specific. Pull *Keep* to the left: "
        "what stays carries most.",
    ]
    return "\n\n".join(lines) + "\n"


def gallery_part(
    name: str, run: str, graph: CircuitGraph, evidence: CircuitEvidence, numbers: dict, summary: dict
) -> str:
    """One circuit of the gallery."""
    facts = [
        ("nodes, links", f"{len(graph.nodes)}, {len(graph.edges)}"),
        (
            "faithfulness",
            f"{number(numbers['faithfulness'])} (random circuits {number(numbers['random_circuit_faithfulness'])})",
        ),
        (
            "attribution against real patches",
            f"r = {number(numbers['attribution_exact_pearson'])}, slope {number(numbers['attribution_exact_slope'])}",
        ),
        (
            f"steering along {evidence.emotion}",
            f"{number(numbers['desperate_steering_slope'])} log-odds per unit, p = {number(numbers['p_value'])}",
        ),
    ]
    table = "\n".join(["| | |", "| --- | --- |", *(f"| {key} | {value} |" for key, value in facts)])
    return (
        f"## {said(graph.behaviour).capitalize()} in `{evidence.model or summary['model']}`\n\nFrom the run `runs/{run}`.\n\n"
        f"{table}\n\n{frame(name, graph, 820)}"
    )


def frame(name: str, graph: CircuitGraph, height: int, *, eager: bool = False) -> str:
    """The iframe with its links, as raw HTML."""
    title = html.escape(f"Live circuit of {said(graph.behaviour)}", quote=True)
    return FRAME.format(
        name=html.escape(name, quote=True),
        title=title,
        height=height,
        loading="" if eager else 'loading="lazy"',
    )


def said(name: str) -> str:
    """A name as people read it."""
    return name.replace("_", " ")


def number(value: float) -> str:
    """Three digits with a real minus sign."""
    return f"{value:.3g}".replace("-", "−")


def percent(value: float) -> str:
    """Whole per cent with a real minus sign."""
    return f"{100 * value:.0f} %".replace("-0 %", "0 %").replace("-", "−")


def put(path: Path, data: bytes) -> None:
    """Writes where something changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_bytes() != data:
        path.write_bytes(data)
