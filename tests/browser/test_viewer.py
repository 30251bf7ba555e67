"""The circuit page under real mouse and keyboard, offline: from a file, in an iframe, as a widget, with hostile text."""

# ruff: noqa: E501 (markup and scripts read better unbroken)

import json

import pytest
from fixtures.chromium import Watch, launched, require_chromium
from fixtures.make_circuit import make_circuit
from fixtures.nasty_circuits import nasty, no_links, single

from emocircuits.artifacts.circuit_graph import CircuitGraph, Edge, Node
from emocircuits.export import html
from emocircuits.export.viewer_data import viewer_data

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    require_chromium()
    with launched() as browser:
        yield browser


@pytest.fixture
def open_page(browser, tmp_path):
    contexts = []

    def open_one(text, width=1200, height=900, scheme="light"):
        path = tmp_path / f"page{len(contexts)}.html"
        path.write_text(text, encoding="utf-8")
        context = browser.new_context(offline=True, viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        watch = Watch(page)
        page.goto(path.as_uri())
        return page, watch

    yield open_one
    for context in contexts:
        context.close()


INK = """() => { const c = document.querySelector("canvas"), d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
  const seen = new Set(); for (let i = 0; i < d.length; i += 4) seen.add((d[i] << 16) | (d[i + 1] << 8) | d[i + 2]); return seen.size; }"""


def ready(page):
    page.wait_for_selector("[data-ready]")


def node_id(page, label):
    return page.evaluate(
        "label => JSON.parse(document.getElementById('circuit-data').textContent).views[0].nodes.find(n => n.label === label).id",
        label,
    )


def at(page, node):
    place = page.evaluate("id => circuit.pos(id)", node)
    return place["x"], place["y"]


def state(page):
    return page.evaluate("circuit.state()")


def test_mouse_hover_click_pin_and_clear(open_page):
    page, watch = open_page(html.page(make_circuit()))
    ready(page)
    assert page.evaluate(INK) > 50
    trapped, leverage = node_id(page, "trapped"), node_id(page, "leverage")
    page.mouse.move(*at(page, trapped))
    tip = page.locator(".ec-tip")
    assert "trapped" in tip.inner_text()
    assert "effect" in tip.inner_text()
    page.mouse.click(*at(page, trapped))
    assert state(page)["selected"] == trapped
    panel = page.locator(".ec-panel")
    assert panel.locator("h3").inner_text() == "trapped"
    assert "desperate" in panel.inner_text()
    assert "verified" in panel.inner_text()
    assert "share of its output" in panel.inner_text()
    page.keyboard.down("Control")
    page.mouse.click(*at(page, leverage))
    page.keyboard.up("Control")
    assert state(page)["pinned"] == [leverage]
    assert state(page)["selected"] == trapped
    page.mouse.click(300, at(page, trapped)[1] + 300)
    box = page.locator("canvas").bounding_box()
    page.mouse.click(box["x"] + 90, box["y"] + 60)
    assert state(page)["selected"] is None
    watch.clean()


def test_keyboard_search_slider_filter_and_table(open_page):
    page, watch = open_page(html.page(make_circuit()))
    ready(page)
    page.locator("canvas").focus()
    page.keyboard.press("ArrowUp")
    assert state(page)["selected"] == "target/logit_diff"
    page.keyboard.press("ArrowDown")
    below = state(page)["selected"]
    assert below.startswith("feature/blocks.3")
    page.keyboard.press("p")
    assert state(page)["pinned"] == [below]
    page.keyboard.press("Escape")
    assert state(page)["selected"] is None
    page.keyboard.press("/")
    page.keyboard.type("hopeless")  # an emotion of the card, not a label
    page.keyboard.press("Enter")
    assert state(page)["selected"] == node_id(page, "nothing left")
    page.keyboard.press("Escape")
    everything = state(page)
    page.evaluate("circuit.setState({threshold: 0.5, selected: null, search: ''})")
    fewer = state(page)
    assert fewer["nodes"] < everything["nodes"]
    assert below in [*fewer["pinned"]]
    page.select_option(".ec-bar-top label:last-child select", "both")
    assert state(page)["links"] == 0
    page.evaluate("circuit.setState({threshold: 1, filter: 'strongest'})")
    first = page.locator(".ec-table tbody tr").first.inner_text()
    page.locator(".ec-table th button").nth(2).click()
    assert page.locator(".ec-table th").nth(2).get_attribute("aria-sort") == "ascending"
    assert page.locator(".ec-table tbody tr").first.inner_text() != first
    page.locator(".ec-table tbody .ec-plain").first.click()
    assert state(page)["selected"] is not None
    watch.clean()


def test_the_two_views_keep_the_selected_feature(open_page):
    page, watch = open_page(html.page(make_circuit()))
    ready(page)
    chosen = node_id(page, "trapped")
    page.evaluate("id => circuit.setState({selected: id})", chosen)
    page.get_by_role("button", name="All positions").click()
    assert state(page)["view"] == "circuit"
    assert chosen.startswith(state(page)["selected"] + "/")
    assert page.locator(".ec-prompt").is_hidden()
    page.get_by_role("button", name="On a prompt").click()
    assert state(page)["selected"] == chosen
    watch.clean()


def test_shares_are_shares_of_all_input(open_page):
    graph = CircuitGraph(
        "b",
        (Node.of("m0", label="a"), Node.of("m1", label="b"), Node.of("target/logit_diff", label="t")),
        (Edge("m0", "target/logit_diff", 3.0), Edge("m1", "target/logit_diff", -1.0)),
    )
    page, watch = open_page(html.page(graph))
    ready(page)
    page.evaluate("circuit.setState({selected: 'target/logit_diff'})")
    rows = page.locator(".ec-links li").all_inner_texts()
    assert ["75 %" in rows[0], "25 %" in rows[1], "−1" in rows[1]] == [True, True, True]
    watch.clean()


@pytest.mark.parametrize("make", [nasty, single, no_links])
def test_hostile_and_empty_circuits(open_page, make):
    page, watch = open_page(html.page(make()))
    ready(page)
    for node in page.evaluate(
        "JSON.parse(document.getElementById('circuit-data').textContent).views[0].nodes.map(n => n.id)"
    ):
        page.evaluate("id => circuit.setState({selected: id})", node)
        page.mouse.move(*at(page, node))
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.images.length") == 0
    assert page.evaluate("document.scripts.length") == 2
    watch.clean()


def test_in_an_iframe(open_page):
    page, watch = open_page(f"<!doctype html><meta charset=utf-8>{html.iframe(nasty())}{html.iframe(make_circuit())}")
    for i in (0, 1):
        frame = page.frame_locator("iframe").nth(i)
        frame.locator("[data-ready]").wait_for()
        assert frame.locator("canvas").get_attribute("aria-label").startswith("Circuit of")
    assert page.evaluate("window.pwned") is None
    watch.clean()


def test_the_widget_contract(open_page):
    data = html.script_json(viewer_data(make_circuit()))
    module = html.script_json(html.viewer_module())
    page, watch = (
        open_page(f"""<!doctype html><meta charset=utf-8><style>{html.viewer_css()}</style><div id=here></div><script type=module>
      const url = URL.createObjectURL(new Blob([{module}], {{type: "text/javascript"}}));
      const widget = (await import(url)).default, graph = {data};
      window.undo = widget.render({{model: {{get: name => name === "graph" ? graph : undefined}}, el: document.getElementById("here")}});
    </script>""")
    )
    ready(page)
    assert page.locator("canvas").count() == 1
    page.evaluate("window.undo()")
    assert page.locator("canvas").count() == 0
    watch.clean()


@pytest.mark.parametrize("width", [1440, 1024, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_the_window(open_page, width, scheme):
    page, watch = open_page(html.page(make_circuit()), width=width, scheme=scheme)
    ready(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("id => circuit.setState({selected: id})", node_id(page, "trapped"))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.querySelector('.ec-viewer')).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    watch.clean()


CONTRAST = """() => { const luminance = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const root = document.querySelector(".ec-viewer"), probe = document.createElement("i"); root.append(probe);
  const read = name => { probe.style.color = `var(--ec-${name})`; return getComputedStyle(probe).color; };
  const result = {}; for (const name of ["ink", "muted", "positive", "negative", "accent"]) for (const ground of ["surface", "soft"]) { const a = luminance(read(name)), b = luminance(read(ground)); result[`${name} on ${ground}`] = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); }
  probe.remove(); return result; }"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(open_page, scheme):
    page, _ = open_page(html.page(make_circuit()), scheme=scheme)
    ready(page)
    low = {name: value for name, value in page.evaluate(CONTRAST).items() if value < 4.5}
    assert low == {}


def big(layers=10, per_layer=500, links=20_000):
    import numpy as np

    random = np.random.default_rng(0)
    tokens = tuple(f" w{i}" for i in range(50))
    nodes = [
        Node.of(f"feature/blocks.{layer}.hook_resid_post/{i}/p{i % 50}", label=f"f{i}", effect=float(random.normal()))
        for layer in range(layers)
        for i in range(per_layer)
    ]
    pairs = {}
    while len(pairs) < links:
        a, b = sorted(random.integers(0, len(nodes), 2))
        if nodes[a].layer < nodes[b].layer:
            pairs[a, b] = float(random.normal())
    return CircuitGraph(
        "big", tuple(nodes), tuple(Edge(nodes[a].id, nodes[b].id, weight) for (a, b), weight in pairs.items()), tokens=tokens
    )


@pytest.mark.slow
def test_five_thousand_nodes_and_twenty_thousand_links(open_page, capsys):
    text = html.page(big())
    page, watch = open_page(text)
    ready(page)
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    timing = page.evaluate("""async () => { const frame = () => new Promise(done => requestAnimationFrame(done)); const times = [];
      for (let i = 0; i < 8; i++) { const begin = performance.now(); circuit.setState({selected: null, threshold: 1 - i / 1000}); await frame(); await frame(); times.push(performance.now() - begin); }
      return times.sort((a, b) => a - b)[4]; }""")
    with capsys.disabled():
        print(json.dumps({"page_kb": len(text) // 1000, "first_paint_ms": paint, "redraw_ms": timing}))
    assert len(text) < 2_000_000
    watch.clean()
