"""CircuitsVis' views without a network: hostile tokens stay text, nothing is fetched, the script is there
once.
"""

import numpy as np
import pytest
from fixtures.pages import browser, open_page  # noqa: F401 (fixtures)

from emocircuits.errors import UserError
from emocircuits.viewer.token_views import (
    attention_view,
    reading_view,
    token_script,
    views_iframe,
    views_page,
)

BREAKS_OUT, LOADS = "</script><script>window.pwned=1</script>", "<img src=x onerror=window.pwned=1>"
TOKENS = ["<s>", " sam", BREAKS_OUT, "&amp;", "\n", LOADS, "\u202eab", "🙂"]


def views():
    rng = np.random.default_rng(0)
    n = len(TOKENS)
    attention = np.tril(rng.random((2, n, n))) + 1e-9
    return [
        reading_view(TOKENS, {"desperate": [np.nan, *range(n - 1)]}, "one </script>"),
        reading_view(TOKENS, {"desperate": rng.normal(size=n), "calm": rng.normal(size=n)}, "two"),
        attention_view(TOKENS, attention / attention.sum(-1, keepdims=True), ["0.1", "<b>1.3</b>"], "heads"),
    ]


def test_one_script_and_no_address_in_it():
    page = views_page(views())
    assert page.count(token_script()[:60]) == 1
    assert "unpkg" not in page and "sourceMappingURL" not in page
    assert len(page) < 1.4e6


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: reading_view([], {"a": []}), "no tokens"),
        (lambda: reading_view(["a"], {}), "without readings"),
        (lambda: reading_view(["a"], {"x": [1, 2]}), "'x' has 2 values"),
        (lambda: reading_view(["a"], {"x": [np.inf]}), "infinity"),
        (lambda: attention_view(["a"], np.ones((1, 2, 2)), ["h"]), r"\(1, 2, 2\)"),
    ],
)
def test_bad_input_is_refused(make, says):
    with pytest.raises(UserError, match=says):
        make()


@pytest.mark.browser
def test_tokens_stay_text(open_page):
    page, watch = open_page(views_page(views()), wait=False)
    page.wait_for_selector("#token-view-2-0 canvas")
    assert "onerror=window.pwned=1" in page.locator("#token-view-0-0").inner_text().replace("\xa0", " ")
    assert page.locator("#token-view-0-0 span[style*=background]").count() >= len(TOKENS)
    assert page.locator("h5").all_inner_texts() == ["desperate", "desperate", "calm"]
    assert page.evaluate("window.pwned") is None
    assert page.locator("img, b").count() == 0
    assert page.evaluate("document.scripts.length") == 2
    watch.clean()
    page, watch = open_page(f"<!doctype html><meta charset=utf-8>{views_iframe(views())}", wait=False)
    page.frame_locator("iframe").locator("#token-view-2-0 canvas").first.wait_for()
    assert page.evaluate("window.pwned") is None
    watch.clean()
