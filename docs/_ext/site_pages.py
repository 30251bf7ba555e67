"""What the documentation takes from the package and its runs: the command line, live circuits, formulas
offline.
"""

import json
import os
import re
import shutil
from importlib import metadata
from pathlib import Path

from circuit_pages import write_circuits
from command_line import command_line_page
from recipe_page import recipe_page
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from emocircuits.attribution.methods import METHODS
from emocircuits.attribution.methods.card import MethodCard
from emocircuits.export import EXPORTERS
from emocircuits.runs.recipe import recipe_keys

MATHJAX = ("sphinx-mathjax-offline", "sphinx-mathjax-offline/static/mathjax/tex-svg.js")


def generate(app: Sphinx) -> None:
    """Fills `_generated`; files that are equal stay untouched, so that nothing is built twice."""
    source = Path(app.srcdir)
    runs = Path(os.environ.get("EMOCIRCUITS_DOCS_RUNS", source.parent / "runs"))
    static = source / "_generated" / "static"
    static.mkdir(parents=True, exist_ok=True)
    script = Path(str(metadata.distribution(MATHJAX[0]).locate_file(MATHJAX[1])))
    if not (static / script.name).is_file():
        shutil.copyfile(script, static / script.name)
    write_text(source / "_generated" / "command_line.md", command_line_page())
    write_text(source / "_generated" / "recipe.md", recipe_page(recipe_keys()))
    write_text(source / "_generated" / "parts" / "exports.md", exports_table())
    write_text(source / "_generated" / "parts" / "methods.md", methods_table())
    write_text(source / "_generated" / "parts" / "parts.md", parts_toctree(source))
    shipped = finished_runs(source / "runs")
    for run in shipped:
        report = static / "reports" / f"{run.name}.html"
        report.parent.mkdir(exist_ok=True)
        shutil.copyfile(run / "report.html", report)
    found = finished_runs(runs) + shipped
    if not found:
        raise ExtensionError("no finished run lies under runs/; `make docs` makes one")
    for name, text in write_circuits(found, static / "circuits").items():
        write_text(source / "_generated" / name, text)


def exports_table() -> str:
    """Every export format, from the registry."""
    rows = [f"| `{form.name}` | `<behaviour>{form.suffix}` | {form.summary} |" for form in EXPORTERS]
    return "\n".join(["| name | file | what it is |", "| --- | --- | --- |", *rows]) + "\n"


def methods_table() -> str:
    """Every attribution method, from the registry."""
    rows = [
        "| " + " | ".join(_cell(text) for text in (f"`{card.name}`", *_about(card))) + " |"
        for card in METHODS
    ]
    heads = ("method", "what it does", "formula", "gradient taken at", "passes", "source")
    return "\n".join([f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads), *rows]) + "\n"


def _about(card: MethodCard) -> tuple[str, ...]:
    return card.summary, f"`{card.formula}`", card.gradient, card.passes, card.source


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def parts_toctree(source: Path) -> str:
    """The contents entry of all pages but the index that no other entry names: one per part of the
    package.
    """
    index = (source / "index.md").read_text(encoding="utf-8").splitlines()
    pages = [path.stem for path in sorted(source.glob("*.md")) if path.stem not in {"index", *index}]
    lines = [
        ":hidden:",
        ":caption: How each part works",
        "",
        "methods",
        *(name for name in pages if name != "methods"),
    ]
    return "\n".join(["```{toctree}", *lines, "```", ""])


def plain_ticks(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Docstrings are written like Markdown: single backticks are code, a bar is a bar."""
    for place, line in enumerate(lines):
        pieces = re.split(r"(`+[^`]+`+)", line)
        for odd in range(1, len(pieces), 2):
            pieces[odd] = f"``{pieces[odd].strip('`')}``" + (
                "\\ " if re.match(r"\w", pieces[odd + 1]) else ""
            )
        for even in range(0, len(pieces), 2):
            pieces[even] = re.sub(r"(?<!\\)\|", r"\\|", pieces[even])
        lines[place] = "".join(pieces)


def finished_runs(runs: Path) -> list[Path]:
    """Runs that have come to their report: the organism's first, then by name."""
    found = []
    for path in sorted(runs.glob("*/manifest.json")):
        if "report" in json.loads(path.read_text(encoding="utf-8"))["stages"]:
            found.append(path.parent)
    return sorted(found, key=lambda run: (run.name != "organism", run.name))


def write_text(path: Path, text: str) -> None:
    """Writes where something changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict:
    """Sphinx calls this."""
    app.connect("builder-inited", generate)
    app.connect("autodoc-process-docstring", plain_ticks, priority=1)
    return {"parallel_read_safe": True}
