"""Figures inside the page: SVG as data, text as outlines so that every machine shows the same picture."""

import re
from pathlib import Path

import pandas as pd

from emocircuits.figures import FigureCard, Missing, draw_figure, from_run, picture
from emocircuits.figures.write import title_of
from emocircuits.report.text import esc

ZOOM = 1.33  # figures are drawn for paper columns; a screen is read from further away


# What would end the attribute, the address or a tag early.
ESCAPES = {char: f"%{ord(char):02X}" for char in "%#&<>'"} | {"\n": " "}


class Pictures:
    """The figures of a run as elements of the page; each is drawn when a part of the report asks for it."""

    def __init__(self, run_dir: str | Path):
        self._run_dir = run_dir

    def __getitem__(self, name: str) -> str:
        """The `figure` element.

        Raises:
            UserError: there is no such figure, or the run does not hold what it needs.
        """
        card, table, _ = from_run(self._run_dir, [name])[name]
        return _element(name, card, table)

    def get(self, name: str) -> str:
        """The `figure` element, or nothing where the run does not hold what it needs."""
        try:
            return self[name]
        except Missing:
            return ""


def svg_address(svg: str) -> str:
    """An SVG picture as the value of an attribute in single quotes; shorter than base64 by a quarter.

    Comments, in which matplotlib repeats every text, and metadata are left out.
    """
    svg = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.S)
    return "data:image/svg+xml," + svg.strip().translate(str.maketrans(ESCAPES))


def _element(name: str, card: FigureCard, table: pd.DataFrame) -> str:
    figure = draw_figure(card, table)
    address = svg_address(picture(figure, "svg", outlines=True).decode())
    title = esc(title_of(name, card))
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    return (
        f'<figure class="plot"><img alt="{title}" width="{width}" height="{height}" '
        f"style=\"max-width:{round(ZOOM * width) + 40}px\" src='{address}'>"
        f"<figcaption><b>{title}.</b> {esc(card.summary)}</figcaption></figure>"
    )
