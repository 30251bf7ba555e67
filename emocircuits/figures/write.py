"""Writing figures: five files each, and a contact sheet. Equal data give equal bytes."""

# ruff: noqa: E501 (markup and scripts read better unbroken)

import html
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.apart import apart
from emocircuits.figures.card import FIGURES, FigureCard, Missing, columns
from emocircuits.figures.style import FORMATS, picture, style
from emocircuits.io.atomic import write_bytes, write_text
from emocircuits.io.documents import write_csv, write_json
from emocircuits.provenance import code_version, sha256_file

SCHEMA, VERSION = "emocircuits.figure", 1

SHEET = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Figures</title>
<style>
:root {{ color-scheme: light dark; --bg: #f3f3f0; --ink: #1d2025; --muted: #646a73; --line: #e2e2dd; --card: #fff; }}
@media (prefers-color-scheme: dark) {{ :root {{ --bg: #0f1115; --ink: #e7e8ea; --muted: #9ba1ab; --line: #2d323a; --card: #16191e; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; padding: 32px 24px 64px; background: var(--bg); color: var(--ink); font: 15px/1.5 Inter, "Segoe UI", system-ui, sans-serif; }}
main {{ max-width: 1240px; margin: 0 auto; }} h1 {{ margin: 0 0 24px; font-size: 26px; letter-spacing: -.02em; }}
.sheet {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 520px), 1fr)); gap: 20px; align-items: start; }}
figure {{ margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 12px; overflow: hidden; }}
figure img {{ display: block; width: 100%; height: auto; background: #fff; padding: 12px; }}
figcaption {{ padding: 12px 16px 14px; border-top: 1px solid var(--line); }} h2 {{ font-size: 15px; margin: 0 0 3px; }}
p {{ margin: 0; color: var(--muted); font-size: 13.5px; }} nav {{ margin-top: 9px; display: flex; gap: 14px; font-size: 13px; }}
a {{ color: inherit; text-underline-offset: 3px; }}
</style></head><body><main><h1>Figures</h1><div class="sheet">
{cards}
</div></main></body></html>
"""


def from_run(
    run_dir: str | Path, only: Iterable[str] | None = None
) -> dict[str, tuple[FigureCard, pd.DataFrame, dict[str, str]]]:
    """The tables of every figure that a run directory can fill.

    Args:
        run_dir: the run directory.
        only: figure names; default all. A named figure is never left out in silence.

    Returns:
        File name -> (figure, its tidy table, file name -> hash of what was read for it).

    Raises:
        UserError: an unknown name, or data missing for a figure that is not optional or was named.
    """
    if not Path(run_dir).is_dir():
        raise Missing(f"{run_dir} is no directory", expected="a run directory")
    named = tuple(only) if only is not None else ()
    figures = {}
    for name in named or FIGURES.names():
        card, run = FIGURES.get(name), RunFiles(Path(run_dir))
        try:
            tables = card.load(run)
        except Missing:
            if card.optional and not named:
                continue
            raise
        figures.update({file: (card, table, dict(run.read)) for file, table in tables.items()})
    return figures


def draw_figure(card: FigureCard, table: pd.DataFrame, venue: str = "page") -> Figure:
    """The figure of a table, after its columns were checked."""
    columns(table, card.columns, f"the table of figure '{card.name}'")
    with style():
        return card.draw(table, venue)


def write_figure(
    card: FigureCard,
    table: pd.DataFrame,
    directory: str | Path,
    *,
    name: str | None = None,
    venue: str = "page",
    inputs: dict[str, str] | None = None,
) -> list[Path]:
    """Writes `<name>.pdf`, `.svg`, `.png`, `.csv` (the plotted numbers) and `.json` (what it was
    made from).
    """
    name = name or card.name
    directory = Path(directory)
    figure = draw_figure(card, table, venue)
    paths = _files(directory, name)
    for form, path in zip(FORMATS, paths, strict=False):
        write_bytes(path, picture(figure, form))
    write_csv(directory / f"{name}.csv", table)
    about: dict[str, Any] = {
        "figure": card.name,
        "title": card.title,
        "caption": card.summary,
        "venue": venue,
        "rows": len(table),
        "inputs": inputs or {},
        "data": sha256_file(directory / f"{name}.csv"),
        "code_version": code_version(),
        "matplotlib": matplotlib.__version__,
    }
    write_json(directory / f"{name}.json", about, schema=SCHEMA, version=VERSION)
    return paths


def write_figures(
    run_dir: str | Path,
    directory: str | Path | None = None,
    *,
    only: Iterable[str] | None = None,
    venue: str = "page",
    processes: int = 1,
) -> list[Path]:
    """Writes all figures of a run (default into `<run>/figures`) and the contact sheet `index.html`.

    Args:
        run_dir: the run directory.
        directory: where to.
        only: figure names; default all.
        venue: whose widths.
        processes: from 2 on, another process draws every second figure; the files do not depend on it.

    Raises:
        UserError: as `from_run`; an unknown venue.
    """
    directory = Path(directory) if directory is not None else Path(run_dir) / "figures"
    only = None if only is None else tuple(only)
    figures = from_run(run_dir, only)
    there = [name for name in [*figures][1::2] if _is_ours(figures[name][0])] if processes > 1 else []
    where = {"run_dir": str(run_dir), "directory": str(directory), "only": only, "venue": venue}
    here = [name for name in figures if name not in there]
    with apart(__name__, "write_some", {**where, "names": there}) if there else nullcontext():
        _write(figures, here, directory, venue)
    cards = [_sheet_card(name, card) for name, (card, _, _) in figures.items()]
    write_text(directory / "index.html", SHEET.format(cards="\n".join(cards)))
    return [*(path for name in figures for path in _files(directory, name)), directory / "index.html"]


def write_some(
    run_dir: str, directory: str, only: Sequence[str] | None, venue: str, names: Sequence[str]
) -> None:
    """Writes the figures of some file names; arguments as `write_figures` has them."""
    _write(from_run(run_dir, only), names, Path(directory), venue)


def _write(
    figures: dict[str, tuple[FigureCard, pd.DataFrame, dict[str, str]]],
    names: Iterable[str],
    directory: Path,
    venue: str,
) -> None:
    for name in names:
        card, table, inputs = figures[name]
        write_figure(card, table, directory, name=name, venue=venue, inputs=inputs)


def _files(directory: Path, name: str) -> list[Path]:
    return [directory / f"{name}.{form}" for form in (*FORMATS, "csv", "json")]


def _is_ours(card: FigureCard) -> bool:
    """Whether another process has this figure."""
    return all(part.__module__.startswith(f"{__package__}.") for part in (card.draw, card.load))


def title_of(name: str, card: FigureCard) -> str:
    """Title of a figure file: the card's, with the behaviour where there is one figure per behaviour."""
    rest = name.removeprefix(card.name).strip("_").replace("_", " ")
    return f"{card.title}: {rest}" if rest else card.title


def _sheet_card(name: str, card: FigureCard) -> str:
    title, link = html.escape(title_of(name, card)), html.escape(name, quote=True)
    links = " ".join(f'<a href="{link}.{form}">{form}</a>' for form in (*FORMATS, "csv", "json"))
    return (
        f'<figure><img src="{link}.svg" alt="{title}" loading="lazy"><figcaption><h2>{title}</h2>'
        f"<p>{html.escape(card.summary)}</p><nav>{links}</nav></figcaption></figure>"
    )
