"""Pins, supernodes, names and places: by mouse and keyboard, through a reload, through a saved file."""

import json

import pytest
from fixtures.chromium import wait_until
from fixtures.make_circuit import make_circuit
from fixtures.make_evidence import make_evidence
from fixtures.pages import at, browser, ctrl_click, node_id, open_page, put, ready, state  # noqa: F401 (fixtures)

from emocircuits.artifacts.circuit import CircuitGraph, Edge, Node
from emocircuits.viewer import page as html
from emocircuits.viewer.clusters import emotion_clusters

pytestmark = pytest.mark.browser
BOXES = ".ec-subgraph g[data-key]"


@pytest.fixture(scope="module")
def circuit():
    return make_circuit()


@pytest.fixture(scope="module")
def full(circuit):
    return html.page(circuit, make_evidence(circuit))


def ids(circuit, *labels):
    return [node_id(circuit.example, label) for label in labels]


def box(page, text):
    return page.locator(BOXES, has_text=text)


def gather(page, nodes):
    page.locator("canvas").focus()
    page.keyboard.down("g")
    for node in nodes:
        page.mouse.click(*at(page, node))
    page.keyboard.up("g")


def test_the_summary_groups_by_emotion_cluster(open_page):
    """Two features of one cluster and one layer share a box; its effect is their sum, its links are
    added up.
    """
    site = "feature/blocks.1.hook_resid_post"

    def feature(number, emotion, effect, q_value=0.01):
        details = {"emotions": [{"emotion": emotion, "q_value": q_value}]}
        return Node.of(f"{site}/{number}", label=f"f{number}", effect=effect, details=details)

    nodes = (
        Node.of("feature/blocks.0.hook_resid_post/9", label="below", effect=0.5),
        feature(1, "desperate", 2.0),
        feature(2, "miserable", 1.0),
        feature(3, "desperate", 1.5, q_value=0.5),  # not significant: no match
        Node.of("target/logit_diff", label="goal", effect=4.5),
    )
    edges = (
        Edge(nodes[0].id, nodes[1].id, 0.3),
        Edge(nodes[0].id, nodes[2].id, 0.1),
        Edge(nodes[1].id, nodes[4].id, 2.0),
        Edge(nodes[2].id, nodes[4].id, 1.0),
        Edge(nodes[3].id, nodes[4].id, 1.0),
    )
    clusters = emotion_clusters()
    assert clusters["desperate"] == clusters["miserable"] == "Despair and Shame"
    page, watch = open_page(html.page(CircuitGraph("b", nodes, edges)))
    assert page.locator(BOXES).count() == 4
    assert "2 features · +3" in box(page, "Despair and Shame").text_content()
    titles = page.locator(".ec-subgraph path.ec-link title").all_text_contents()
    assert sorted(titles) == [
        "Despair and Shame → goal: +3, 75 % of its input",
        "below → Despair and Shame: +0.4, 100 % of its input",
        "f3 → goal: +1, 25 % of its input",
    ]
    watch.clean()


def test_pins_make_the_subgraph_and_g_gathers_a_supernode(open_page, circuit, full):
    page, watch = open_page(full)
    chosen = ids(circuit, "trapped", "leverage", "act under threat", "nothing left")
    for node in [*chosen, "target/logit_diff"]:
        ctrl_click(page, node)
    assert state(page)["pinned"] == [*chosen, "target/logit_diff"]
    assert page.locator(BOXES).count() == 5
    gather(page, chosen[:2])
    made = state(page)["groups"]
    assert [group["ids"] for group in made] == [chosen[:2]]
    assert page.locator(BOXES).count() == 4
    effect = sum(circuit.example.node(node).effect for node in chosen[:2])
    assert f"2 features · +{effect:.3g}" in page.locator(".ec-subgraph .ec-super").text_content()
    name = page.get_by_label("Name of this group")
    name.fill("means of pressure")
    name.press("Enter")
    name.blur()
    assert box(page, "means of pressure").count() == 1
    page.get_by_role("button", name="Ungroup means of pressure").click()
    assert state(page)["groups"] == []
    page.get_by_role("button", name="Group by emotion cluster").click()
    # trapped and nothing left, in one layer
    assert [group["name"] for group in state(page)["groups"]] == ["Despair and Shame"]
    page.get_by_role("button", name="Clear", exact=True).click()
    assert state(page)["pinned"] == []
    watch.clean()


def test_a_dragged_box_stays_where_it_was_put(open_page, circuit, full):
    page, watch = open_page(full)
    put(page, pinned=[*ids(circuit, "trapped", "leverage"), "target/logit_diff"])
    box(page, "trapped").evaluate("box => box.scrollIntoView({block: 'center'})")
    before, link = box(page, "trapped").bounding_box(), page.locator(".ec-link").first.get_attribute("d")
    x, y = before["x"] + before["width"] / 2, before["y"] + before["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 90, y + 12, steps=5)
    page.mouse.up()
    after = box(page, "trapped").bounding_box()
    assert (after["x"] - before["x"], after["y"] - before["y"]) == pytest.approx((90, 12), abs=2)
    assert page.locator(".ec-link").first.get_attribute("d") != link
    assert state(page)["selected"] is None  # a drag is no click
    put(page, threshold=0.9)
    assert box(page, "trapped").bounding_box() == after
    watch.clean()


def test_everything_chosen_survives_a_reload(open_page, circuit, full):
    page, watch = open_page(full)
    chosen = ids(circuit, "trapped", "leverage", "act under threat")
    put(
        page,
        pinned=chosen,
        groups=[{"name": "two: a/b & c", "ids": chosen[:2]}],
        selected=chosen[2],
        threshold=0.9,
        filter="either",
    )
    put(
        page,
        labels={circuit.nodes[5].id: "no exit"},
        places={chosen[2]: [120, 60]},
        control="calm",
        path=1,
        dose={"direction": "calm", "step": 1},
    )
    put(page, **{"from": "desperate"})
    before = state(page)
    address = page.url
    assert "#" in address
    page.reload()
    ready(page)
    assert state(page) == before
    assert box(page, "two: a/b & c").count() == 1
    assert "no exit" in page.locator(BOXES).all_text_contents()[0] or box(page, "no exit").count() == 0
    page.goto("about:blank")
    page.goto(address)
    ready(page)
    assert state(page) == before
    watch.clean()


def test_a_saved_subgraph_comes_back_and_foreign_files_are_refused(open_page, circuit, full, tmp_path):
    page, watch = open_page(full)
    chosen = ids(circuit, "trapped", "leverage")
    put(page, pinned=chosen, groups=[{"name": "pair", "ids": chosen}])
    page.locator(".ec-menu summary").click()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="My subgraph and settings").click()
    saved = waiting.value.path().read_text()
    assert waiting.value.suggested_filename == "blackmail.subgraph.json"
    put(page, pinned=[], groups=[])

    def load(text):
        file = tmp_path / "saved.json"
        file.write_text(text)
        page.locator("input[type=file]").set_input_files(file)

    load(saved)
    wait_until(page, "circuit.state().pinned.length === 2")
    assert state(page)["groups"] == [{"name": "pair", "ids": chosen}]
    notice = page.locator(".ec-notice")
    for text, message in (
        ("{", "not JSON"),
        ('{"a": 1}', "no saved subgraph"),
        (json.dumps({**json.loads(saved), "schema_version": 9}), "version 9"),
        (
            json.dumps({**json.loads(saved), "pinned": [chosen[0], "feature/x", 7, None]}),
            "3 nodes of the saved state are not in this circuit",
        ),
        (json.dumps({**json.loads(saved), "behaviour": "<b>other"}), "Saved from the circuit of <b>other"),
    ):
        load(text)
        wait_until(
            page, "text => document.querySelector('.ec-notice').textContent.includes(text)", arg=message
        )
        assert notice.is_visible()
    watch.clean()


@pytest.mark.parametrize(
    "address",
    [
        "#keep=lots&pins=%7B&groups=7&view=nowhere&dose=null",
        "#node=%3Cimg%3E&labels=[1,2]&places={%22a%22:[1]}",
        "#%",
    ],
)
def test_a_spoilt_address_is_ignored(open_page, full, address):
    page, watch = open_page(full)
    page.goto(page.url.split("#")[0] + address)
    page.reload()
    ready(page)
    found = state(page)
    assert (found["pinned"], found["groups"], found["selected"], found["threshold"]) == ([], [], None, 1)
    watch.clean()


def test_the_subgraph_works_by_keyboard(open_page, circuit, full):
    page, watch = open_page(full)
    chosen = ids(circuit, "trapped", "leverage", "nothing left")
    put(page, pinned=chosen)
    trapped = box(page, "trapped")
    trapped.focus()
    page.keyboard.press("Enter")
    assert state(page)["selected"] == chosen[0]
    before = box(page, "trapped").bounding_box()["x"]
    page.keyboard.press("ArrowRight")
    assert box(page, "trapped").bounding_box()["x"] == before + 12
    assert page.evaluate("document.activeElement.dataset.key") == chosen[0]
    page.keyboard.press("Delete")
    assert state(page)["pinned"] == chosen[1:]
    page.locator("canvas").focus()
    page.keyboard.press("g")
    assert [group["ids"] for group in state(page)["groups"]] == [chosen[1:]]
    watch.clean()


def test_a_node_can_be_renamed(open_page, circuit, full):
    page, watch = open_page(full)
    chosen = ids(circuit, "trapped")[0]
    put(page, selected=chosen)
    page.get_by_role("button", name="Rename").click()
    field = page.get_by_label("Name of this node")
    field.fill("<b>no way out</b>")
    field.press("Enter")
    assert page.locator(".ec-panel h2").inner_text() == "<b>no way out</b>"
    assert list(state(page)["labels"].values()) == ["<b>no way out</b>"]
    put(page, selected=None, search="no way out</b>")
    page.get_by_label("Search nodes").press("Enter")
    assert state(page)["selected"] == chosen
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("Name of this node").press("Escape")
    assert page.locator(".ec-panel h2").inner_text() == "<b>no way out</b>"
    watch.clean()
