"""Figures of a run one by one: written where they are wanted, and shown by a notebook as they are."""

from dataclasses import dataclass, field
from pathlib import Path

from emocircuits.errors import unknown
from emocircuits.figures.card import FIGURES
from emocircuits.figures.style import picture
from emocircuits.figures.write import draw_figure, from_run, write_figure


@dataclass(frozen=True)
class Picture:
    """A drawn figure.

    Attributes:
        name, title, caption: what it is.
        png: the picture.
        files: the five files, where they were written.
    """

    name: str
    title: str
    caption: str
    png: bytes = field(repr=False)
    files: tuple[Path, ...] = ()

    def _repr_png_(self) -> bytes:
        return self.png


def show_figure(
    run_dir: str | Path, name: str, directory: str | Path | None = None, *, venue: str = "page"
) -> Picture:
    """A figure of a run.

    Args:
        run_dir: the run directory.
        name: of the file: `steering`, or `circuit_blackmail` where there is one per behaviour.
        directory: write its five files there, too.
        venue: whose column widths.

    Raises:
        UserError: an unknown name, or a run without its data.
    """
    known = max((card for card in FIGURES.names() if name.startswith(card)), key=len, default=None)
    figures = {} if known is None else from_run(run_dir, [known])
    if name not in figures:
        raise unknown("figure", name, figures or FIGURES.names())
    card, table, inputs = figures[name]
    files = (
        write_figure(card, table, directory, name=name, venue=venue, inputs=inputs)
        if directory is not None
        else ()
    )
    return Picture(
        name, card.title, card.summary, picture(draw_figure(card, table, venue), "png"), tuple(files)
    )
