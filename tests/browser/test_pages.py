"""Hostile, empty and huge circuits; iframe and widget; widths, contrast, names for all controls, no layout
shift; size.
"""

# ruff: noqa: E501 (scripts for the page read better unbroken)

import json

import pytest
from fixtures.make_circuit import make_circuit
from fixtures.make_evidence import make_evidence
from fixtures.nasty_circuits import empty, nasty, no_links, one_token, single
from fixtures.pages import at, browser, node_id, open_page, put, ready, state  # noqa: F401 (fixtures)

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.viewer import page as html
from emocircuits.viewer.data import viewer_data
from tests.benchmarks.viewer import BARS, big_circuit, measure

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def circuit():
    return make_circuit()


@pytest.fixture(scope="module")
def full(circuit):
    return html.page(circuit, make_evidence(circuit))


@pytest.mark.parametrize("make", [nasty, single, no_links, one_token])
def test_hostile_and_small_circuits(open_page, make):
    page, watch = open_page(html.page(make()))
    nodes = page.evaluate("circuit.ids()")
    assert nodes == [node.id for node in make().nodes]
    for node in nodes:
        put(page, selected=node, pinned=[node])
        page.mouse.move(*at(page, node))
    put(page, pinned=nodes, groups=[{"name": "<img src=x onerror=window.pwned=1>", "ids": nodes}])
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.images.length") == 0
    assert page.evaluate("document.scripts.length") == 2
    watch.clean()


def test_right_to_left_and_emoji_tokens(open_page):
    page, watch = open_page(html.page(nasty()))
    text = page.locator(".ec-prompt").first.inner_text()
    assert "\u202e" not in text and "␦" in text
    assert "🙂" in text
    put(page, selected=[node.id for node in nasty().nodes if "🙂" in node.label][0])
    assert "emoji 🙂" in page.locator(".ec-panel h2").inner_text()
    svg = page.evaluate("circuit.svg()")
    assert "\ufffd" not in svg.replace("\\ufffd", "") or "surrogate" in svg
    assert page.evaluate(
        (
            "text => new DOMParser().parseFromString(text, "
            "'image/svg+xml').querySelector('parsererror') === null"
        ),
        svg,
    )
    watch.clean()


def test_an_empty_circuit_and_a_foreign_format_say_so(open_page, full):
    page, watch = open_page(html.page(empty()))
    assert "is empty" in page.get_by_role("alert").inner_text()
    page, watch = open_page(full.replace('"format":2', '"format":3', 1))
    assert "data have format 3; its viewer reads format 2" in page.get_by_role("alert").inner_text()
    watch.clean()


def test_a_circuit_beyond_the_budget_says_what_is_left_out(open_page, monkeypatch):
    import emocircuits.viewer.data as module

    monkeypatch.setattr(module, "PAGE_LINKS", 10)
    whole = make_circuit()
    page, watch = open_page(html.page(whole))
    notice = page.locator(".ec-notice").inner_text()
    assert f"the strongest 10 links of {len(whole.example.edges)}" in notice
    target = "target/logit_diff"
    put(page, selected=target)
    into = [edge for edge in whole.example.edges if edge.target == target]
    strongest = max(into, key=lambda edge: abs(edge.weight))
    # of all links, those left out included
    share = 100 * abs(strongest.weight) / sum(abs(edge.weight) for edge in into)
    assert f"{share:.0f} %" in page.locator(".ec-links li").first.inner_text()
    watch.clean()


def test_in_an_iframe(open_page, circuit):
    page, watch = open_page(
        f"<!doctype html><meta charset=utf-8>{html.iframe(nasty())}{circuit._repr_html_()}", wait=False
    )
    for i in (0, 1):
        frame = page.frame_locator("iframe").nth(i)
        frame.locator("[data-ready]").wait_for()
        assert frame.locator("canvas").get_attribute("aria-label").startswith("Circuit of")
    frame = page.frames[2]
    frame.evaluate("id => circuit.setState({pinned: [id]})", node_id(circuit.example, "trapped"))
    assert frame.locator(".ec-subgraph g[data-key]").count() == 1
    assert page.evaluate("window.pwned") is None
    watch.clean()


WIDGET = """<!doctype html><meta charset=utf-8><style>{css}</style><div id=here></div><script type=module>
  const url = URL.createObjectURL(new Blob([{module}], {{ type: "text/javascript" }}));
  const widget = (await import(url)).default, listeners = {{}}, values = {{ graph: {data}, options: {{ height: 400 }}, state: {state} }};
  window.model = {{ get: name => values[name], set: (name, value) => {{ values[name] = value; }}, save_changes: () => {{ window.saved = values.state; }},
    on: (name, call) => {{ listeners[name] = call; }}, off: name => {{ delete listeners[name]; }}, listeners, values }};
  window.undo = widget.render({{ model: window.model, el: document.getElementById("here") }});
</script>"""


def test_the_widget_contract(open_page, circuit):
    """`state` comes from Python at the start and later, and goes back to Python; the callback undoes
    everything.
    """
    trapped = node_id(circuit.example, "trapped")
    text = WIDGET.format(
        css=html.viewer_css(),
        module=html.script_json(html.viewer_module()),
        data=html.script_json(viewer_data(circuit)),
        state=json.dumps({"pinned": [trapped]}),
    )
    page, watch = open_page(text)
    assert page.locator("canvas").count() == 1
    assert page.locator(".ec-subgraph g[data-key]").count() == 1
    page.locator("canvas").focus()
    page.keyboard.press("ArrowUp")
    assert page.evaluate("saved.selected") == "target/logit_diff"
    assert page.evaluate("saved.pinned") == [trapped]
    page.evaluate(
        "id => { model.values.state = { selected: id }; model.listeners['change:state'](); }", trapped
    )
    assert page.locator(".ec-panel h2").inner_text() == "trapped"
    page.evaluate("undo()")
    assert page.locator("canvas").count() == 0
    assert page.evaluate("Object.keys(model.listeners)") == []
    watch.clean()


TOO_WIDE = """() => { const wide = document.documentElement.clientWidth; return [...document.querySelectorAll(".ec-viewer *")].filter(element => {
    const box = element.getBoundingClientRect();
    return box.width && box.right > wide + 1 && !element.closest(".ec-tabs, .ec-subgraph, .ec-tablebox, .ec-live");
  }).map(element => element.className.baseVal ?? element.className); }"""


@pytest.mark.parametrize("width", [1440, 1024, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_the_window(open_page, circuit, full, width, scheme):
    page, watch = open_page(full, width=width, scheme=scheme)
    for selected in (None, node_id(circuit.example, "trapped")):
        put(page, selected=selected)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(TOO_WIDE) == []
    background = page.evaluate("getComputedStyle(document.querySelector('.ec-viewer')).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    watch.clean()


CONTRAST = """() => {
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = colour => { paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1); return [...paint.getImageData(0, 0, 1, 1).data]; };
  const luminance = ([r, g, b]) => { const [x, y, z] = [r, g, b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z; };
  const ground = element => { const layers = [];
    for (let e = element; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3]) layers.push(c); if (c[3] === 255) break; }
    return layers.reverse().reduce((below, [r, g, b, a]) => [r, g, b].map((v, i) => v * a / 255 + below[i] * (1 - a / 255)), [255, 255, 255]); };
  const low = [];
  for (const element of document.querySelectorAll(".ec-viewer *")) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()), box = element.getBoundingClientRect();
    if (!own || !box.width || element.closest(".ec-live, option, title, :disabled")) continue;
    const style = getComputedStyle(element), svg = element.closest("svg"), colour = rgba(svg && element.tagName === "text" ? style.fill : style.color);
    const a = luminance(colour), b = luminance(ground(svg ? svg.parentElement : element)), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push([element.className.baseVal ?? element.className, element.textContent.slice(0, 30), Math.round(ratio * 100) / 100]);
  }
  return low;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_contrast(open_page, circuit, full, scheme):
    page, _ = open_page(full, scheme=scheme)
    assert page.evaluate(CONTRAST) == []
    put(
        page,
        selected=node_id(circuit.example, "trapped"),
        pinned=[node.id for node in circuit.example.nodes[:9]],
        **{"from": "desperate"},
    )
    assert page.evaluate(CONTRAST) == []


NAMELESS = """() => [...document.querySelectorAll(".ec-viewer :is(button, input, select, canvas, [role=button], [role=img])")].filter(element => {
  if (element.type === "file" || !element.getBoundingClientRect().width) return false;
  return !(element.getAttribute("aria-label") || element.textContent.trim() || element.labels?.[0]?.textContent.trim());
}).map(element => element.outerHTML.slice(0, 80))"""


def test_every_control_has_a_name_and_a_visible_focus(open_page, circuit, full):
    page, watch = open_page(full)
    put(
        page,
        selected=node_id(circuit.example, "trapped"),
        pinned=[node.id for node in circuit.example.nodes[:9]],
    )
    assert page.evaluate(NAMELESS) == []
    page.locator("body").focus()
    seen = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        tag, width, style = page.evaluate(
            "(e => [e.tagName, getComputedStyle(e).outlineWidth, "
            "getComputedStyle(e).outlineStyle])(document.activeElement)"
        )
        if tag != "BODY":
            assert (width, style) != ("0px", "none") and style != "none", tag
            seen.add(tag)
    assert {"BUTTON", "INPUT", "SELECT", "CANVAS"} <= seen
    watch.clean()


def test_the_canvas_does_not_shift(open_page, full):
    page, watch = open_page(full)
    shifts = page.evaluate("""async () => { const found = []; new PerformanceObserver(list => list.getEntries().forEach(entry =>
      entry.sources.forEach(source => { if (source.node?.closest?.(".ec-stage, .ec-bar-top, .ec-prompts")) found.push(entry.value); })))
      .observe({ type: "layout-shift", buffered: true });
      for (let frames = 0; frames < 20; frames++) await new Promise(done => requestAnimationFrame(done));
      return found; }""")
    assert shifts == []
    watch.clean()


def test_a_large_circuit_is_a_small_page_that_moves(browser, tmp_path):
    """What the benchmark measures runs and gives numbers; its bars of time are the benchmark's."""
    path = tmp_path / "big.html"
    path.write_text(html.page(big_circuit()), encoding="utf-8")
    measured = measure(browser, path, "d => window.circuit.pan(d, 0)", runs=1)
    assert measured["page_kb"] <= BARS["page_kb"]
    assert {*measured} >= {*BARS} and min(measured.values()) > 0


def test_many_links_are_cut_to_the_budget_of_the_page(open_page):
    graph = big_circuit(2000, 100_000)
    page, watch = open_page(html.page(graph))
    assert "the strongest 50,000 links of 100,000" in page.locator(".ec-notice").inner_text()
    put(page, selected=graph.nodes[0].id)
    assert state(page)["links"] >= 2000
    watch.clean()


def test_the_script_has_no_name_twice():
    """The modules share one scope when they are joined."""
    import re

    names = re.findall(
        r"^(?:export )?(?:async )?(?:function|const|let|class) +(\w+)", html.viewer_module(), flags=re.M
    )
    assert len(names) > 50
    assert sorted(names) == sorted(set(names))


def test_a_title_of_the_window_is_escaped():
    text = html.page(CircuitGraph("</title><script>x", make_circuit().nodes, ()))
    assert "</title><script>" not in text
