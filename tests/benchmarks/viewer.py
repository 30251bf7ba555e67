"""The circuit page in headless Chromium without a GPU: first paint, panning, page size, next to their bars
and to plain SVG.

    python -m tests.benchmarks.viewer [--nodes 5000] [--links 20000] [--runs 5] [--json]

First paint is from the start of navigation until the browser presents the first frame with content, which
holds the whole picture (all nodes and the links of the drawing budget); panning is the mean time per
animation frame while the picture moves. The SVG page draws the same nodes and the same links as elements and
moves them by one transform.
"""

import argparse
import html as markup
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from emocircuits.artifacts.circuit import CircuitGraph, Edge, Node
from emocircuits.viewer import page as html
from emocircuits.viewer.layout import grid

BARS = {"first_paint_ms": 250.0, "pan_ms": 70.0, "page_kb": 1500.0}
DRAWN = 2000  # the viewer's drawing budget of links
LAYERS, POSITIONS = 10, 50

PAINT = """async () => {
  const entry = name => performance.getEntriesByName(name)[0]?.startTime;
  while (entry("first-contentful-paint") == null) await new Promise(done => setTimeout(done, 20));
  return Math.max(entry("first-contentful-paint"), entry("emocircuits-painted") ?? 0);
}"""
PAN = """async frames => {
  const move = MOVE, frame = () => new Promise(done => requestAnimationFrame(done)), times = [];
  await frame();
  let last = performance.now();
  for (let i = 0; i < frames; i++) {
    move(i < frames / 2 ? 9 : -9);
    await frame();
    const now = performance.now();
    times.push(now - last);
    last = now;
  }
  return times;
}"""


def big_circuit(n_nodes: int = 5000, n_links: int = 20_000, seed: int = 0) -> CircuitGraph:
    """A made-up circuit of that size: ten layers, fifty tokens, normal effects and weights."""
    random = np.random.default_rng(seed)
    nodes = tuple(
        Node.of(
            f"feature/blocks.{i % LAYERS}.hook_resid_post/{i // LAYERS}/p{i % POSITIONS}",
            label=f"f{i}",
            effect=float(random.normal()),
        )
        for i in range(n_nodes)
    )
    pairs: dict[tuple[int, int], float] = {}
    while len(pairs) < n_links:
        for a, b in np.sort(random.integers(0, n_nodes, (n_links, 2)), axis=1).tolist():
            a, b = sorted((a, b), key=lambda i: nodes[i].layer)
            if nodes[a].layer < nodes[b].layer and len(pairs) < n_links:
                pairs[a, b] = float(random.normal())
    edges = tuple(Edge(nodes[a].id, nodes[b].id, weight) for (a, b), weight in pairs.items())
    return CircuitGraph("big", nodes, edges, tokens=tuple(f" w{i}" for i in range(POSITIONS)))


def svg_page(graph: CircuitGraph, drawn: int = DRAWN) -> str:
    """The same picture as plain SVG elements."""
    layout = grid(graph)
    sx, sy = 13, 620 / layout.height
    at = {name: (x * sx, (layout.height - y) * sy) for name, (x, y) in layout.places.items()}
    largest = max(abs(edge.weight) for edge in graph.edges)
    colour = {True: "#0068a8", False: "#ad4705"}
    parts, circle = (
        [],
        '<circle cx="{x:.0f}" cy="{y:.0f}" r="4" fill="{fill}"><title>{label}</title></circle>',
    )
    for edge in sorted(graph.edges, key=lambda edge: abs(edge.weight))[-drawn:]:
        (ax, ay), (bx, by), part = at[edge.source], at[edge.target], (abs(edge.weight) / largest) ** 0.5
        bend = 0.45 * abs(ay - by)
        parts.append(
            f'<path d="M{ax:.0f} {ay:.0f}C{ax:.0f} {ay - bend:.0f} {bx:.0f} {by + bend:.0f} {bx:.0f} '
            f'{by:.0f}" stroke="{colour[edge.weight < 0]}" stroke-width="{0.7 + 4.6 * part:.2f}" '
            f'opacity="{0.18 + 0.6 * part:.2f}"/>'
        )
    for node in graph.nodes:
        x, y = at[node.id]
        parts.append(circle.format(x=x, y=y, fill=colour[node.effect < 0], label=markup.escape(node.label)))
    return (
        '<!doctype html><meta charset="utf-8"><svg width="1200" height="700" viewBox="0 0 1200 700">'
        f'<g id="all" fill="none">{"".join(parts)}</g></svg><script>let at = 0; window.ready = true;'
        'const all = document.getElementById("all");'
        'window.pan = d => { at += d; all.setAttribute("transform", `translate(${at} 0)`); };'
        "</script>"
    )


def measure(browser, path: Path, pan: str, runs: int, frames: int = 30) -> dict[str, float]:
    """Medians over fresh pages; the first page warms the browser and does not count."""
    from tests.fixtures.chromium import new_context, wait_until

    paints, pans, worst = [], [], []
    for _ in range(runs + 1):
        context = new_context(browser, 1200, 800)
        page = context.new_page()
        page.goto(path.as_uri())
        wait_until(page, "window.ready || document.querySelector('[data-ready]')")
        paints.append(page.evaluate(PAINT))
        times = page.evaluate(PAN.replace("MOVE", pan), frames)
        pans.append(statistics.mean(times))
        worst.append(max(times))
        context.close()
    return {
        "first_paint_ms": round(statistics.median(paints[1:]), 1),
        "pan_ms": round(statistics.median(pans[1:]), 1),
        "worst_frame_ms": round(statistics.median(worst[1:]), 1),
        "page_kb": round(path.stat().st_size / 1000, 1),
    }


def run(
    nodes: int = 5000, links: int = 20_000, runs: int = 5, svg: bool = True
) -> dict[str, dict[str, float]]:
    """Contender -> numbers."""
    from playwright.sync_api import sync_playwright

    from tests.fixtures.chromium import ARGUMENTS, CHROMIUM

    graph = big_circuit(nodes, links)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as tool:
        viewer, plain = Path(folder) / "viewer.html", Path(folder) / "svg.html"
        viewer.write_text(html.page(graph), encoding="utf-8")
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        found = {"viewer": measure(browser, viewer, "d => window.circuit.pan(d, 0)", runs)}
        if svg:
            plain.write_text(svg_page(graph), encoding="utf-8")
            found["plain SVG"] = measure(browser, plain, "d => window.pan(d)", runs)
        browser.close()
    return found


def main(arguments: list[str] | None = None) -> int:
    """Prints the table; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--links", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    found = run(asked.nodes, asked.links, asked.runs)
    if asked.json:
        print(json.dumps(found))
    else:
        print(
            f"{asked.nodes} nodes, {asked.links} links; medians of {asked.runs} pages at 1200 x 800 in "
            "headless Chromium, no GPU"
        )
        for contender, numbers in found.items():
            for name, value in numbers.items():
                bar = BARS.get(name) if contender == "viewer" else None
                print(
                    f"{contender:<10} {name:<15} {value:>8.1f}"
                    + ("" if bar is None else f"   bar {bar:g}   {'met' if value <= bar else 'MISSED'}")
                )
    return 0 if all(found["viewer"][name] <= bar for name, bar in BARS.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
