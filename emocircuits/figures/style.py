"""How every figure looks: column widths, type, colours; equal data give equal bytes."""

import gc
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from fontTools import subset
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from emocircuits.errors import unknown
from emocircuits.sanitise import sanitise_text

# Widths of one and of two columns, inches.
VENUES = {"neurips": (3.25, 5.5), "icml": (3.25, 6.75), "iclr": (3.25, 5.5), "page": (3.25, 6.75)}

POSITIVE, NEGATIVE, NEUTRAL, INK, MUTED, GRID = (
    "#D55E00",
    "#0072B2",
    "#8A8F97",
    "#1D2025",
    "#646A73",
    "#E2E2DD",
)
SERIES = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito 2008
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), "-")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DIVERGING = "PuOr_r"  # colour-blind safe: purple is negative, orange positive

# File formats and the metadata that would make equal figures differ.
FORMATS = {
    "pdf": {"CreationDate": None, "ModDate": None, "Producer": None, "Creator": None},
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
}

CANVASES = {"pdf": FigureCanvasPdf, "svg": FigureCanvasSVG, "png": FigureCanvasAgg}

_RC = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "axes.grid": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 3.8,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "emocircuits",
    "savefig.dpi": 300,
    "figure.dpi": 100,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
}


@contextmanager
def style() -> Iterator[None]:
    """The settings of every figure, undone afterwards."""
    with matplotlib.rc_context(_RC):
        yield


def widths(venue: str) -> tuple[float, float]:
    """Widths of one and two columns of a venue, inches.

    Raises:
        UserError: no such venue.
    """
    if venue not in VENUES:
        raise unknown("venue", venue, VENUES)
    return VENUES[venue]


def new_figure(width: float, height: float, layout: str | None = "constrained") -> Figure:
    """An empty figure that no window system and no global state knows of."""
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def picture(figure: Figure, form: str, *, outlines: bool = False) -> bytes:
    """A figure as bytes of a format (`pdf`, `svg`, `png`), without dates and host names.

    Its layout is computed once and holds for every format; `Figure.savefig` would compute it for each, and go
    through every figure twice.

    Args:
        figure: the figure.
        form: the format.
        outlines: draw the text of an SVG as outlines, so that it looks the same without our font.
    """
    buffer = io.BytesIO()
    with style(), warnings.catch_warnings(), _collector_off(), _lean_fonts():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # emoji in a token: a box is what the font has
        canvas, dpi = figure.canvas, figure.dpi
        _fix_layout(figure)
        if outlines:
            matplotlib.rcParams["svg.fonttype"] = "path"
        figure.dpi = matplotlib.rcParams["savefig.dpi"]
        getattr(CANVASES[form](figure), f"print_{form}")(buffer, metadata=FORMATS[form])
        figure.dpi = dpi
        figure.set_canvas(canvas)
    return buffer.getvalue()


def _fix_layout(figure: Figure) -> None:
    """Computes the layout with the measures that text has in a PDF, and keeps it."""
    engine = figure.get_layout_engine()
    if engine is not None:
        FigureCanvasPdf(figure)
        engine.execute(figure)
        figure.set_layout_engine("none")


@contextmanager
def _collector_off() -> Iterator[None]:
    """No garbage collection: it would go through the many small objects of a picture again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def _lean_fonts() -> Iterator[None]:
    """Embeds fonts without their layout tables: a PDF places every glyph itself, and to read those tables is
    most of the work of embedding.
    """
    load = subset.load_font

    def lean(path: str, options: Any, **more: Any) -> Any:
        options.drop_tables += ["GSUB", "GPOS", "GDEF"]
        return load(path, options, **more)

    subset.load_font = lean
    try:
        yield
    finally:
        subset.load_font = load


def literal(text: Any) -> str:
    """Text that matplotlib draws as it is: no mathematics, no character that a file cannot hold."""
    return sanitise_text(str(text)).replace("$", r"\$")
