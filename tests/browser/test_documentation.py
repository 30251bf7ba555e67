"""The documentation as a reader meets it: built strictly from a small run, opened from disk without a
network.
"""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest
from fixtures.chromium import Watch, new_context
from fixtures.pages import browser  # noqa: F401 (fixture)
from fixtures.waits import run_to_end

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "index",
    "tutorial",
    "gallery",
    "glossary",
    "extending",
    "_generated/command_line",
    "api/circuits",
    "notebooks/index",
)
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(debug_run, tmp_path_factory):
    """The pages, built with warnings as errors; notebooks are run by their own tests, not here."""
    if not all(
        importlib.util.find_spec(name) for name in ("sphinx", "furo", "myst_nb", "sphinx_autodoc_typehints")
    ):
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail("the documentation must be built in CI: the extra `docs` is not installed")
        pytest.skip("the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("_build", "_generated"))
    (folder / "runs").mkdir()
    (folder / "runs" / "debug").symlink_to(debug_run)
    (folder / "emocircuits").symlink_to(ROOT / "emocircuits")  # pages show some of its files
    env = {
        **os.environ,
        "EMOCIRCUITS_DOCS_EXECUTE": "off",
        "PYTHONPATH": str(ROOT),
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    command = [sys.executable, "-m", "sphinx", "-n", "-W", "--keep-going", "-q", "-b", "html", "docs", "html"]
    done = run_to_end(command, seconds=500, cwd=folder, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "html"


@pytest.fixture
def page(browser):
    context = new_context(browser, 1300, 900)
    page = context.new_page()
    yield page, Watch(page)
    context.close()


def test_pages_open_without_a_network(site, page):
    tab, watch = page
    for name in PAGES:
        tab.goto((site / f"{name}.html").as_uri())
        assert tab.locator("h1").count() >= 1, name
        assert tab.evaluate("document.documentElement.scrollWidth") <= 1300, name
    watch.clean()


def test_the_start_page_has_a_live_circuit_and_says_what_it_shows(site, page):
    tab, watch = page
    tab.goto((site / "index.html").as_uri())
    frame = tab.frame_locator(".circuit-frame iframe").first
    frame.locator("[data-ready]").wait_for()
    frame.locator("canvas").focus()
    tab.keyboard.press("ArrowUp")
    frame.get_by_text("Effect on the metric").wait_for()
    text = tab.locator("article").inner_text()
    assert all(
        words in text
        for words in ("What you see.", "What is claimed.", "Try it.", "random circuits of the same size")
    )
    for link in tab.locator(".circuit-links a, .next-steps a").evaluate_all(
        "all => all.map(one => one.href)"
    ):
        assert Path(link.removeprefix("file://")).is_file(), link
    watch.clean()


def test_formulas_need_no_network(site, page):
    tab, watch = page
    tab.goto((site / "glossary.html").as_uri())
    tab.locator("mjx-container svg").first.wait_for(state="attached")
    watch.clean()


def test_the_gallery_shows_every_circuit(site, page):
    tab, watch = page
    tab.goto((site / "gallery.html").as_uri())
    frame = tab.locator(".circuit-frame iframe").first
    frame.scroll_into_view_if_needed()
    tab.frame_locator(".circuit-frame iframe").first.locator("[data-ready]").wait_for()
    assert tab.locator(".circuit-frame iframe").count() == len(
        list((site / "_static" / "circuits").glob("*.html"))
    )
    watch.clean()
