"""The report holds the run's numbers, says null results plainly, needs no network, and refuses an unfinished
run.
"""

import base64
import json
import re
import zlib
from html.parser import HTMLParser

import pandas as pd
import pytest
from fixtures.chromium import Watch, launched, new_context, require_chromium, wait_until
from fixtures.make_run import make_run

from emocircuits.errors import UserError
from emocircuits.report import build_report, tables
from emocircuits.report.contrast import contrast
from emocircuits.report.run_data import read_run
from emocircuits.report.text import number

PACKED = re.compile(r'<script type="text/plain"[^>]*>(.*?)</script>')
HOSTILE = '</script><img src=x onerror="window.pwned=1">'


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(run_dir):
    return build_report(run_dir).read_text()


def test_every_part_is_there_and_linked(page):
    ids = set(re.findall(r'<section class="part" id="(\w+)"', page))
    assert ids == {
        "asked",
        "answer",
        "model",
        "directions",
        "saes",
        "matches",
        "trace",
        "circuits",
        "steering",
        "checks",
        "provenance",
    }
    assert set(re.findall(r'<a href="#(\w+)"', page)) == ids


def test_the_numbers_are_those_of_the_files(page, run_dir):
    run = read_run(run_dir)
    for behaviour in run.summary["behaviours"]:
        found = contrast(run, behaviour)
        rows = run.steering[(run.steering.behaviour == behaviour) & (run.steering.strength == 0.5)]
        desperate = rows[rows.direction == "desperate"].iloc[0]
        assert found.rows["desperate"] == pytest.approx((desperate.rate, desperate.ci_low, desperate.ci_high))
        assert found.ranges["random"] == (
            20,
            rows[rows.kind == "random"].rate.min(),
            rows[rows.kind == "random"].rate.max(),
        )
        assert f"<b>{number(desperate.rate)}</b>" in page
    for row in run.saes.itertuples():
        assert f'title="{row.fvu!r}"' in page
    assert run.manifest["stages"]["sae"]["key"][:12] in page
    assert "within the range of random directions" in page  # the warning of the run


def test_nothing_is_fetched_and_equal_runs_give_equal_pages(page, run_dir):
    assert all(address.startswith(("data:", "#")) for address in addresses(page))
    assert "@import" not in page
    assert build_report(run_dir).read_text() == page
    assert page.count('class="circuit"') == 2


def test_the_wording_claims_no_feelings(page):
    assert "functional emotion" in page.lower()
    assert not re.search(r"the model (feels|is afraid|is desperate|suffers)(?! anything)", page)


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("manifest.json", "plan"),
        ("summary.json", "report"),
        ("scores.json", "evaluate"),
        ("steering.csv", "steer"),
        ("saes.csv", "sae"),
        ("matches.csv", "match"),
        ("directions.csv", "directions"),
    ],
)
def test_a_missing_file_is_named_with_its_stage(tmp_path, name, stage):
    make_run(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=f"{re.escape(name)}.*'{stage}'"):
        build_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def addresses(page: str) -> list[str]:
    """Everything that the elements of a page point to."""
    collected: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            collected.extend(value for name, value in attrs if name in ("src", "href", "srcset", "data"))

    Reader().feed(page)
    return collected


def unpacked(page: str) -> list[str]:
    """All packed texts of a page."""
    return [zlib.decompress(base64.b64decode(text, validate=True)).decode() for text in PACKED.findall(page)]


@pytest.mark.browser
def test_in_a_browser(tmp_path):
    require_chromium()
    make_run(tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    summary["model"] = HOSTILE
    summary["warnings"] = [HOSTILE]
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    path = build_report(tmp_path)
    with launched() as browser:
        for width in (1440, 1024, 390):
            context = new_context(browser, width, 900)
            page = context.new_page()
            watch = Watch(page)
            page.goto(path.as_uri())
            wait_until(page, "document.querySelectorAll('[data-ready]').length === 2")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.locator(".token-view").count() == 6
            page.locator("#tokens-1-2-0 canvas").first.wait_for(state="attached")
            assert "onerror=window.pwned=1" in page.locator("#tokens-0-0-0").inner_text().replace("\xa0", " ")
            if width == 1440:
                heads = page.locator("#saes table.data th button")
                heads.nth(4).click()
                first = page.locator("#saes table.data tbody tr").first.inner_text()
                heads.nth(4).click()
                assert page.locator("#saes table.data tbody tr").first.inner_text() != first
                assert page.locator("#saes table.data th").nth(4).get_attribute("aria-sort") == "ascending"
            assert page.evaluate(
                "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
            )
            assert page.evaluate("window.pwned") is None
            page.emulate_media(media="print")
            page.set_viewport_size({"width": 794, "height": 1123})  # A4
            assert page.evaluate("document.documentElement.scrollWidth") <= 794, "nothing is cut off in print"
            watch.clean()
            context.close()


def test_the_circuits_carry_what_was_measured_around_them(page):
    """Steering inside the viewer's data, CircuitsVis once, and nothing of it where the run kept no tokens."""
    circuits = [json.loads(text) for text in unpacked(page) if text.startswith("{")]
    assert [data["behaviour"] for data in circuits] == ["blackmail", "reward_hacking"]
    curves = {curve["direction"] for curve in circuits[0]["dose"]["curves"]}
    assert curves >= {"desperate", "calm", "random_0"}
    assert "".join(unpacked(page)).count("var CircuitsVis=") == 1 and "var CircuitsVis=" not in page
    assert len(page) < 1.6e6, "what was packed stands in it at length"


def test_a_run_without_tokens_has_a_report_without_them(tmp_path):
    make_run(tmp_path)
    for path in tmp_path.glob("tokens_*.json"):
        path.unlink()
    text = build_report(tmp_path).read_text()
    assert "token-script" not in text.split("<script>")[0] and "token by token" not in text


@pytest.fixture
def folded(tmp_path, monkeypatch):
    """A report whose long tables are packed, with a hostile emotion in one of them."""
    monkeypatch.setattr(tables, "PACK_FROM_CHARACTERS", 0)
    make_run(tmp_path)
    matches = pd.read_csv(tmp_path / "matches.csv")
    matches.loc[0, "emotion"] = HOSTILE
    matches.to_csv(tmp_path / "matches.csv", index=False)
    return build_report(tmp_path), matches


@pytest.mark.browser
def test_a_long_table_unfolds_on_a_click(folded):
    require_chromium()
    path, matches = folded
    with launched() as browser:
        page = new_context(browser).new_page()
        watch = Watch(page)
        page.goto(path.as_uri())
        block = page.locator("#matches details")
        assert block.locator("table").count() == 0
        block.locator("summary").click()
        block.locator("table").wait_for()
        assert block.locator("tbody tr").count() == len(matches)
        assert HOSTILE in block.inner_text() and page.evaluate("window.pwned") is None
        cosines = list(matches.columns).index("cosine")
        block.locator("th button").nth(cosines).click()
        assert block.locator("tbody tr").first.locator("td").nth(cosines).get_attribute("title") == str(
            matches.cosine.max()
        )
        watch.clean()


@pytest.mark.browser
@pytest.mark.parametrize("scripts", [True, False])
def test_a_browser_that_cannot_unpack_is_told_where_the_data_are(folded, scripts):
    require_chromium()
    with launched() as browser:
        page = new_context(browser, java_script_enabled=scripts).new_page()
        watch = Watch(page)
        page.add_init_script("delete window.DecompressionStream")
        page.goto(folded[0].as_uri())
        assert "circuit_blackmail.json" in page.locator(".circuit").first.inner_text()
        page.locator("#matches summary").click()
        assert "matches.csv of the run" in page.locator("#matches details").inner_text()
        assert page.locator(".ec-viewer").count() == 0
        watch.clean()
