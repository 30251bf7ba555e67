"""Figures inside the page: SVG as data, text as outlines so that every machine shows the same picture."""

# ruff: noqa: E501 (markup and scripts read better unbroken)

import base64
from pathlib import Path

from emocircuits.figures import draw_figure, from_run, picture
from emocircuits.figures.write import title_of
from emocircuits.report.text import esc

ZOOM = 1.33  # figures are drawn for paper columns; a screen is read from further away


def pictures(run_dir: str | Path) -> dict[str, str]:
    """Every figure that the run can fill: file name -> `figure` element."""
    found = {}
    for name, (card, table, _) in from_run(run_dir).items():
        figure = draw_figure(card, table)
        form = "png" if card.name == "emotion_similarity" else "svg"
        data = picture(figure, form, outlines=True)
        kind = "image/png" if form == "png" else "image/svg+xml"
        title = esc(title_of(name, card))
        width, height = (round(96 * size) for size in figure.get_size_inches())
        found[name] = (
            f'<figure class="plot"><img alt="{title}" width="{width}" height="{height}" style="max-width:{round(ZOOM * width) + 40}px" '
            f'src="data:{kind};base64,{base64.b64encode(data).decode()}"><figcaption><b>{title}.</b> {esc(card.summary)}</figcaption></figure>'
        )
    return found
