"""The circuit page under real mouse and keyboard, offline: grid, card, paths, controls, steering, table."""

# ruff: noqa: E501 (scripts for the page read better unbroken)

import json

import pytest
from fixtures.chromium import wait_until
from fixtures.make_circuit import make_circuit
from fixtures.make_evidence import CHANGED, make_evidence
from fixtures.pages import at, browser, ctrl_click, node_id, open_page, put, ready, state  # noqa: F401 (fixtures)

from emocircuits.artifacts.circuit import CircuitGraph, Edge, Node
from emocircuits.viewer import page as html
from emocircuits.viewer.path_shares import fractions, largest_shares, reach, starting_points

pytestmark = pytest.mark.browser

INK = """() => {
  const c = document.querySelector("canvas"), d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data, seen = new Set();
  for (let i = 0; i < d.length; i += 4) seen.add((d[i] << 16) | (d[i + 1] << 8) | d[i + 2]);
  return seen.size;
}"""
PIXELS = """() => { const c = document.querySelector("canvas"); return c.toDataURL(); }"""


@pytest.fixture(scope="module")
def circuit():
    return make_circuit()


@pytest.fixture(scope="module")
def full(circuit):
    return html.page(circuit, make_evidence(circuit))


def test_mouse_hover_click_pin_and_clear(open_page, circuit, full):
    page, watch = open_page(full)
    assert page.evaluate(INK) > 50
    trapped, leverage = node_id(circuit.example, "trapped"), node_id(circuit.example, "leverage")
    page.mouse.move(*at(page, trapped))
    tip = page.locator(".ec-tip").inner_text()
    effect = circuit.example.node(trapped).effect
    assert "trapped" in tip and f"+{effect:.3g}" in tip and "[" in tip
    assert state(page)["hovered"] == trapped
    page.mouse.click(*at(page, trapped))
    assert state(page)["selected"] == trapped
    panel = page.locator(".ec-panel")
    assert panel.locator("h2").inner_text() == "trapped"
    text = panel.inner_text()
    for part in (
        "desperate",
        "verified by intervention",
        "share of its output",
        "Activation over the prompt",
        "Raises these tokens",
    ):
        assert part in text
    ctrl_click(page, leverage)
    assert state(page)["pinned"] == [leverage]
    assert state(page)["selected"] == trapped
    box = page.locator("canvas").bounding_box()
    page.mouse.click(box["x"] + 90, box["y"] + 60)
    assert state(page)["selected"] is None
    assert panel.locator("h2").inner_text() == "blackmail"
    watch.clean()


@pytest.mark.parametrize(
    "address",
    ["https://www.neuronpedia.org/gemma-2-2b/12-res/7", "javascript:alert(1)", "https://evil.example/a/b/7"],
)
def test_a_card_links_to_neuronpedia_and_nowhere_else(open_page, address):
    node = Node.of(
        "feature/blocks.0.hook_resid_post/7",
        effect=1.0,
        details={"neuronpedia": "https://www.neuronpedia.org/x/y/1"},
    )
    written = html.page(
        CircuitGraph("demo", (node, Node.of("target/logit_diff")), (Edge(node.id, "target/logit_diff", 1.0),))
    )
    assert "https://www.neuronpedia.org/x/y/1" in written
    # as if the page had been tampered with
    page, watch = open_page(written.replace("https://www.neuronpedia.org/x/y/1", address))
    put(page, selected=node.id)
    links = page.locator(".ec-panel a").evaluate_all("all => all.map(a => [a.href, a.rel])")
    assert links == ([[address, "noopener noreferrer"]] if "neuronpedia" in address else [])
    watch.clean()


def test_dragging_moves_the_picture_and_ctrl_wheel_zooms(open_page, circuit, full):
    page, watch = open_page(full)
    trapped = node_id(circuit.example, "trapped")
    x, y = at(page, trapped)
    page.mouse.move(x + 60, y - 40)
    page.mouse.down()
    page.mouse.move(x + 160, y - 10, steps=4)
    page.mouse.up()
    assert at(page, trapped) == pytest.approx((x + 100, y + 30), abs=1)
    assert state(page)["selected"] is None
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    wait_until(page, "([id, x]) => Math.abs(circuit.pos(id).x - x) > 5", arg=[trapped, x + 100])
    page.get_by_role("button", name="Show everything").click()
    assert at(page, trapped) == pytest.approx((x, y), abs=1)
    watch.clean()


def test_keyboard_search_slider_filter_and_table(open_page, circuit, full):
    page, watch = open_page(full)
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
    page.keyboard.type("miserable")  # an emotion of the card, not a label
    page.keyboard.press("Enter")
    assert state(page)["selected"] == node_id(circuit.example, "nothing left")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.className") == "ec-panel"
    everything = state(page)
    put(page, threshold=0.5, selected=None, search="")
    fewer = state(page)
    assert fewer["nodes"] < everything["nodes"]
    ranked = page.evaluate("circuit.ids()")
    assert below in ranked and below in fewer["pinned"]
    page.get_by_label("Links to draw").select_option("both")
    assert state(page)["links"] == 0
    put(page, threshold=1, filter="strongest")
    rows = page.locator(".ec-table tbody tr")
    first = rows.first.inner_text()
    strongest = max(circuit.example.edges, key=lambda edge: abs(edge.weight))
    assert f"{abs(strongest.weight):.3g}" in first
    page.locator(".ec-table th button").nth(2).click()
    assert page.locator(".ec-table th").nth(2).get_attribute("aria-sort") == "ascending"
    assert rows.first.inner_text() != first
    page.locator(".ec-table tbody .ec-plain").first.click()
    assert state(page)["selected"] is not None
    watch.clean()


def test_the_two_views_keep_the_selected_feature(open_page, circuit, full):
    page, watch = open_page(full)
    chosen = node_id(circuit.example, "trapped")
    put(page, selected=chosen)
    page.get_by_role("button", name="All positions").click()
    assert state(page)["view"] == "circuit"
    assert chosen.startswith(state(page)["selected"] + "/")
    assert page.locator(".ec-prompts").is_hidden()
    page.get_by_role("button", name="On a prompt").click()
    assert state(page)["selected"] == chosen
    assert page.evaluate("circuit.ids()") == [node.id for node in circuit.example.nodes]
    watch.clean()


def test_shares_are_shares_of_all_input(open_page):
    graph = CircuitGraph(
        "b",
        (Node.of("m0", label="a"), Node.of("m1", label="b"), Node.of("target/logit_diff", label="t")),
        (Edge("m0", "target/logit_diff", 3.0), Edge("m1", "target/logit_diff", -1.0)),
    )
    page, watch = open_page(html.page(graph))
    put(page, selected="target/logit_diff")
    rows = page.locator(".ec-links li").all_inner_texts()
    assert ["75 %" in rows[0], "25 %" in rows[1], "−1" in rows[1]] == [True, True, True]
    watch.clean()


def test_paths_from_the_emotion_to_the_metric(open_page, circuit, full):
    page, watch = open_page(full)
    shown, box = circuit.example, page.get_by_role("region", name="Paths")
    links, sources = fractions(shown), starting_points(shown)["desperate"]
    expected = largest_shares(
        links, sources, "target/logit_diff", effects={node.id: node.effect for node in shown.nodes}
    )
    assert f"{100 * reach(links, sources, 'target/logit_diff'):.0f} %" in box.inner_text()
    rows = box.locator("li")
    assert rows.count() == len(expected)
    for row, path in zip(rows.all_inner_texts(), expected, strict=True):
        names = [shown.node(name).label for name in path.nodes[:-1]]
        assert " → ".join([*names, "the metric"]) in row.replace("\n", " ")
        assert f"{100 * path.share:.1f}".removesuffix(".0")[:3] in row or f"{100 * path.share:.0f} %" in row
    before = page.evaluate(PIXELS)
    box.get_by_role("button", name="Show on the grid").click()
    assert state(page)["from"] == "desperate"
    wait_until(page, f"before => ({PIXELS})() !== before", arg=before)
    rows.nth(1).get_by_role("button").click()
    assert state(page)["path"] == 1
    box.get_by_label("Paths from").select_option("=")
    assert (state(page)["from"], state(page)["path"]) == ("", None)
    assert "words of the prompt" in box.inner_text()
    watch.clean()


def test_controls_stand_on_the_same_grid(open_page, circuit, full):
    page, watch = open_page(full)
    trapped = node_id(circuit.example, "trapped")
    put(page, selected=trapped)
    place, effect = at(page, trapped), circuit.example.node(trapped).effect
    switch = page.get_by_role("group", name="Direction whose effects are shown")
    assert [button.inner_text() for button in switch.get_by_role("button").all()] == [
        "the prompts",
        "calm",
        "random",
        "content",
    ]
    before = page.evaluate(PIXELS)
    switch.get_by_role("button", name="calm").click()
    assert state(page)["control"] == "calm"
    assert at(page, trapped) == place
    wait_until(page, f"before => ({PIXELS})() !== before", arg=before)
    panel = page.locator(".ec-panel").inner_text()
    assert "along calm" in panel
    assert f"−{abs(effect) / 2:.3g}" in panel
    assert "verified by intervention" not in panel  # that was measured for the circuit, not for the control
    switch.get_by_role("button", name="the prompts").click()
    assert state(page)["control"] is None
    assert f"+{effect:.3g}" in page.locator(".ec-panel").inner_text()
    watch.clean()


def test_the_steering_slider_stops_where_the_model_was_run(open_page, full):
    page, watch = open_page(full)
    box = page.get_by_role("region", name="Steering")
    slider = box.get_by_role("slider")
    assert "42 % [0.38, 0.46]" in box.inner_text()
    assert "20 random directions" in box.inner_text()
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert state(page)["dose"] == {"direction": "desperate", "step": 3}
    assert "30 % [0.27, 0.33]" in box.inner_text()
    assert slider.get_attribute("aria-valuetext") == "+0.25: rate 30 %"
    box.get_by_label("Steering along").select_option("calm")
    assert "12 %" in box.inner_text()
    watch.clean()


def test_clean_and_corrupt_stand_side_by_side(open_page, circuit, full):
    page, watch = open_page(full)
    prompts = page.locator(".ec-prompt")
    assert prompts.count() == 2
    for prompt in (prompts.first, prompts.last):
        marked = prompt.locator(".ec-differs").all()
        assert sorted(int(token.get_attribute("data-i")) for token in marked) == sorted(CHANGED)
    assert CHANGED[7].strip() in prompts.last.inner_text()
    put(page, selected=node_id(circuit.example, "trapped"))
    assert "shaded by the activation" in page.locator(".ec-prompts").inner_text()
    assert "in the corrupt prompt" in page.locator(".ec-panel").inner_text()
    first, last = (prompt.bounding_box() for prompt in (prompts.first, prompts.last))
    assert first["y"] == last["y"]
    prompts.last.locator("[data-i='7']").hover()
    assert page.locator(".ec-here").count() == 2
    watch.clean()


def test_a_panel_without_data_does_not_appear(open_page, circuit):
    page, watch = open_page(html.page(circuit))
    assert page.get_by_role("region", name="Steering").count() == 0
    assert page.get_by_role("group", name="Direction whose effects are shown").count() == 0
    assert page.locator(".ec-prompt:visible").count() == 1
    bare = CircuitGraph("bare", (Node.of("m0", effect=1.0), Node.of("m1", effect=-2.0)), ())
    page, watch = open_page(html.page(bare))
    assert page.get_by_role("region", name="Paths").count() == 0
    assert page.locator(".ec-prompts").is_hidden()
    watch.clean()


def test_uncertain_nodes_look_uncertain(open_page):
    """The same effect with an interval that includes zero is drawn pale, and the card says so."""
    nodes = [
        Node.of("feature/blocks.0.hook_resid_post/1", effect=1.0, ci_low=0.8, ci_high=1.2),
        Node.of("feature/blocks.0.hook_resid_post/2", effect=1.0, ci_low=-0.2, ci_high=2.2),
        Node.of("target/logit_diff", label="t"),
    ]
    page, watch = open_page(html.page(CircuitGraph("b", tuple(nodes), ())))
    colour = """id => { const c = document.querySelector("canvas"), p = circuit.pos(id), b = c.getBoundingClientRect();
      return [...c.getContext("2d").getImageData(Math.round(p.x - b.x - p.r / 2), Math.round(p.y - b.y + p.r / 3), 1, 1).data].slice(0, 3); }"""
    sure, unsure = (sum(page.evaluate(colour, node.id)) for node in nodes[:2])
    assert unsure > sure + 150
    put(page, selected=nodes[1].id)
    assert "not significant" in page.locator(".ec-panel").inner_text()
    put(page, selected=nodes[0].id)
    assert "not significant" not in page.locator(".ec-panel").inner_text()
    watch.clean()


def test_what_is_shown_can_be_taken_along(open_page, circuit, full):
    page, watch = open_page(full)

    def take(entry):
        page.locator(".ec-menu summary").click()
        with page.expect_download() as waiting:
            page.get_by_role("button", name=entry).click()
        return waiting.value.suggested_filename, waiting.value.path().read_bytes()

    name, data = take("Grid as PNG")
    assert name == "blackmail.png" and data.startswith(b"\x89PNG") and len(data) > 5000
    name, data = take("Grid as SVG")
    assert name == "blackmail.svg" and b"trapped" in data and b"<script" not in data
    name, data = take("Subgraph as SVG")
    assert name == "blackmail.subgraph.svg" and b"var(--" not in data and b"class=" not in data
    put(page, threshold=0.4)
    name, data = take("What is shown, as JSON")
    shown = json.loads(data)
    assert len(shown["nodes"]) == state(page)["nodes"] < len(circuit.example.nodes)
    weights = {(edge.source, edge.target): edge.weight for edge in circuit.example.edges}
    for edge in shown["edges"]:
        assert edge["weight"] == pytest.approx(weights[edge["source"], edge["target"]], rel=1e-3)
    watch.clean()
