"""One layout for all formats of a picture; the figure, matplotlib and Python are left as they were."""

import gc
import re

import matplotlib
import numpy as np
import pytest
from fontTools import subset

from emocircuits.errors import UserError
from emocircuits.figures.style import literal, new_figure, picture, style, widths


@pytest.fixture
def figure():
    with style():
        figure = new_figure(3.0, 2.0)
        first, second = figure.subplots(1, 2)
        first.plot([0, 1], [0, 12345], label="a line")
        second.imshow(np.eye(3), interpolation="none")
        first.set(xlabel="from", ylabel="a longer label")
        figure.colorbar(second.images[0], ax=second)
    return figure


def places(figure):
    return np.array([axes.get_position().bounds for axes in figure.axes])


def test_every_format_has_the_layout_of_the_first(figure):
    before = places(figure)
    picture(figure, "pdf")
    fixed = places(figure)
    assert np.abs(fixed - before).max() > 0.01, "the layout moves the axes"
    for form in ("svg", "png", "pdf"):
        picture(figure, form)
        np.testing.assert_array_equal(places(figure), fixed)


@pytest.mark.parametrize("form", ["pdf", "svg", "png"])
def test_equal_figures_give_equal_bytes_and_nothing_is_left_changed(figure, form):
    state = figure.canvas, figure.dpi, subset.load_font, gc.isenabled(), matplotlib.rcParams["svg.fonttype"]
    first = picture(figure, form)
    assert picture(figure, form) == first
    assert state == (
        figure.canvas,
        figure.dpi,
        subset.load_font,
        gc.isenabled(),
        matplotlib.rcParams["svg.fonttype"],
    )


def test_a_png_has_300_dots_per_inch(figure):
    header = picture(figure, "png")[16:24]
    assert (int.from_bytes(header[:4], "big"), int.from_bytes(header[4:], "big")) == (900, 600)


def test_text_is_text_or_outlines(figure):
    assert b"a longer label</text>" in picture(figure, "svg")
    outlines = picture(figure, "svg", outlines=True)
    assert b"<text" not in outlines and re.search(rb'<use xlink:href="#DejaVuSans-\w+', outlines)


def test_labels_and_widths():
    assert literal("$x$") == r"\$x\$"
    with pytest.raises(UserError, match="unknown venue 'icmll'; did you mean 'icml'"):
        widths("icmll")
