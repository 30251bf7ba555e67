"""CircuitsVis' token and attention views without a network: its script once per page, token text that cannot
become markup.

CircuitsVis' own wrappers ask google.com whether to load their script from a CDN, put the 1.3 MB script next to
every single view, leave their container open, and insert token text as HTML. So only its script is taken from
the installed package; the containers, the properties and the calls are written here.
"""

# ruff: noqa: E501 (markup and scripts read better unbroken)

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from emocircuits.errors import UserError
from emocircuits.sanitise import sanitise_text
from emocircuits.viewer.page import script_json

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title><style>
:root {{ color-scheme: light; }} body {{ margin: 0; padding: 12px; background: #fff; color: #1d2025; font: 14px/1.5 system-ui, "DejaVu Sans", sans-serif; }}
{css}
</style></head><body>
{views}
<script>{script}</script>
<script>{calls}</script>
</body></html>
"""
CSS = """.token-view { max-width: 760px; margin: 0 0 18px; overflow-x: auto; color: #1d2025; } .token-view > h4 { margin: 0 0 6px; font-size: 14px; font-weight: 600; }
.token-view > h5 { margin: 8px 0 2px; font-size: 13px; font-weight: 500; color: #5f656e; }"""
POSITIVE, NEGATIVE = "#D55E00", "#0072B2"  # Okabe & Ito 2008, as in every figure

# An iframe of this kind has its page's origin, so it can be made as high as what it holds.
GROW = "new ResizeObserver(()=>{this.style.height=this.contentDocument.documentElement.offsetHeight+'px'}).observe(this.contentDocument.body)"


@dataclass(frozen=True)
class TokenView:
    """One or several components of CircuitsVis under a heading.

    Attributes:
        parts: (component, its own heading or "", properties); texts in the properties are escaped where the
            component inserts them as HTML.
        title: heading, as text.
    """

    parts: tuple[tuple[str, str, dict[str, Any]], ...]
    title: str = ""

    def _repr_html_(self) -> str:
        """For notebooks and documentation: a self-contained iframe."""
        return views_iframe([self])


def reading_view(tokens: Sequence[str], readings: Mapping[str, Any], title: str = "") -> TokenView:
    """A text whose tokens are coloured by readings: orange is positive, blue negative, one line per reading,
    one scale for all.

    Args:
        tokens: texts of the tokens.
        readings: name (for instance of an emotion) -> one value per token; NaN (the attention sink) is shown
            as 0.
        title: heading.

    Raises:
        UserError: no tokens, no readings, or another number of values than tokens.
    """
    texts = _texts(tokens)
    if not readings:
        raise UserError("a token view without readings", expected="at least one")
    values = {
        name: np.nan_to_num(np.asarray(reading, dtype=np.float64), posinf=np.inf, neginf=-np.inf)
        for name, reading in readings.items()
    }
    for name, reading in values.items():
        if reading.shape != (len(texts),):
            raise UserError(
                f"the reading '{name}' has {reading.size} values", expected=f"{len(texts)}, reading per token"
            )
        if not np.isfinite(reading).all():
            raise UserError(f"the reading '{name}' holds infinity", expected="finite numbers")
    most = max(float(np.abs(reading).max()) for reading in values.values()) or 1.0
    scale = {"minValue": -most, "maxValue": most, "positiveColor": POSITIVE, "negativeColor": NEGATIVE}
    parts = tuple(
        ("ColoredTokens", name, {"tokens": texts, "values": _short(reading), **scale})
        for name, reading in values.items()
    )
    return TokenView(parts, title)


def attention_view(
    tokens: Sequence[str],
    attention: Float[np.ndarray, "head dest src"],
    names: Sequence[str],
    title: str = "",
) -> TokenView:
    """Attention patterns of some heads; the reader picks one and sees which tokens it attends to.

    Args:
        tokens: texts of the tokens.
        attention: rows sum to 1; a row is the token that attends, a column the one that is attended to.
        names: one name per head.
        title: heading.

    Raises:
        UserError: shapes or names that do not fit together.
    """
    _texts(tokens)
    texts = [sanitise_text(str(text)).strip() or "␣" for text in tokens]  # the axes are text, not HTML
    if attention.shape != (len(names), len(texts), len(texts)) or not len(names):
        raise UserError(
            f"attention of shape {attention.shape} for {len(names)} heads",
            expected=f"(head, {len(texts)}, {len(texts)})",
        )
    props = {
        "tokens": texts,
        "attention": _short(attention, 3),
        "attentionHeadNames": [sanitise_text(name) for name in names],
    }
    return TokenView((("AttentionHeads", "", props),), title)


@cache
def token_script() -> str:
    """CircuitsVis' script (MIT), safe inside a script element; defines `CircuitsVis`.

    Raises:
        UserError: the package is not installed as it should be.
    """
    package = find_spec("circuitsvis")
    path = Path(package.origin).parent / "dist" / "cdn" / "iife.js" if package and package.origin else None
    if path is None or not path.is_file():
        raise UserError("the package circuitsvis is not installed", cure="pip install circuitsvis")
    text = path.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("//# sourceMappingURL")]
    return "\n".join(lines).replace("</script", "<\\/script").replace("<!--", "<\\!--")


def view_elements(views: Sequence[TokenView], prefix: str = "token-view") -> tuple[str, str]:
    """The containers of some views and the script that fills them; the page must also hold `token_script()`,
    once.

    Args:
        views: the views.
        prefix: start of the containers' ids, unique on the page.
    """
    boxes, calls = [], []
    for number, view in enumerate(views):
        inside = [f"<h4>{html.escape(sanitise_text(view.title))}</h4>" if view.title else ""]
        for part, (component, heading, props) in enumerate(view.parts):
            name = f"{prefix}-{number}-{part}"
            inside.append(f"<h5>{html.escape(sanitise_text(heading))}</h5>" if heading else "")
            inside.append(f'<div id="{html.escape(name, quote=True)}"></div>')
            calls.append(
                f"CircuitsVis.render({script_json(name)}, CircuitsVis.{component}, {script_json(props)});"
            )
        boxes.append(f'<div class="token-view">{"".join(inside)}</div>')
    return "\n".join(boxes), "\n".join(calls)


def views_page(views: Sequence[TokenView], title: str = "Tokens") -> str:
    """A self-contained page with some views."""
    boxes, calls = view_elements(views)
    return PAGE.format(
        title=html.escape(sanitise_text(title)), css=CSS, views=boxes, script=token_script(), calls=calls
    )


def views_iframe(views: Sequence[TokenView], *, height: int | None = None) -> str:
    """An iframe that holds the page of some views, for notebooks and documentation."""
    high = height or sum(_height(view) for view in views)
    grow = "" if height else f' onload="{GROW}"'
    return (
        f'<iframe title="{html.escape(sanitise_text(views[0].title or "Tokens"), quote=True)}" srcdoc="{html.escape(views_page(views), quote=True)}" '
        f'loading="lazy"{grow} style="width:100%;height:{high}px;border:0;background:#fff"></iframe>'
    )


def _height(view: TokenView) -> int:
    """About how high a view is, until it says so itself."""
    heads = [len(props["attentionHeadNames"]) for _, _, props in view.parts if "attentionHeadNames" in props]
    rows = sum(60 + len(props["tokens"]) for _, _, props in view.parts)
    return 80 + sum(900 + 120 * (count // 4) for count in heads) if heads else 80 + rows


def _texts(tokens: Sequence[str]) -> list[str]:
    """Token texts, escaped, as the colouring views insert them as HTML."""
    if not len(tokens):
        raise UserError("a token view of no tokens", expected="at least one")
    # a tokenizer that keeps no spaces
    bare = len(tokens) > 1 and not any(str(text)[:1].isspace() for text in tokens)
    return [html.escape(sanitise_text(f" {text}" if bare else str(text))) for text in tokens]


def _short(values: Float[np.ndarray, "*any"], digits: int = 4) -> list[Any]:
    return np.round(np.asarray(values, dtype=np.float64), digits).tolist()
