"""`report.html`: one page that tells a run from question to provenance, with no request to anywhere."""

# ruff: noqa: E501 (markup and scripts read better unbroken)

from importlib import resources
from pathlib import Path

from emocircuits.io.atomic import write_text
from emocircuits.report.packed import packed
from emocircuits.report.parts import PARTS
from emocircuits.report.pictures import Pictures
from emocircuits.report.run_data import RunData, read_run
from emocircuits.report.text import esc, words
from emocircuits.report.token_boxes import token_boxes
from emocircuits.viewer.page import viewer_css, viewer_script
from emocircuits.viewer.token_views import CSS as TOKEN_CSS
from emocircuits.viewer.token_views import token_script

NAME = "report.html"

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>
{css}
{viewer_css}
</style></head><body>
<div class="layout"><nav class="toc" aria-label="Contents"><ol>{contents}</ol></nav>
<main><header class="top"><p class="kicker">emocircuits report · {model} · seed {seed}</p><h1>{heading}</h1>
<p class="lead">{lead}</p></header>
{warnings}
{sections}
<footer>Made by emocircuits from the files of one run; code version <code>{code}</code>. Every number on this page is in those files.</footer></main></div>
{token_script}<script>
{script}
{report_script}
</script>
</body></html>
"""


def build_report(run_dir: str | Path) -> Path:
    """Writes `report.html` into a finished run directory and returns its path.

    Raises:
        UserError: a file of the run is missing or broken; the message names it and the stage that writes it.
    """
    path = Path(run_dir) / NAME
    write_text(path, report_page(run_dir))
    return path


def report_page(run_dir: str | Path) -> str:
    """The page as text; equal files give an equal page."""
    run, pictures = read_run(run_dir), Pictures(run_dir)
    sections = "\n".join(
        f'<section class="part" id="{name}"><h2>{esc(part.TITLE)}</h2>{part.build(run, pictures)}</section>'
        for name, part in PARTS.items()
    )
    contents = "".join(f'<li><a href="#{name}">{esc(part.TITLE)}</a></li>' for name, part in PARTS.items())
    heading, lead = _headline(run)
    return PAGE.format(
        title=f"emocircuits report: {esc(run.summary['model'])}",
        css=_asset("report.css") + TOKEN_CSS,
        viewer_css=viewer_css(),
        contents=contents,
        model=esc(run.summary["model"]),
        seed=esc(run.manifest["seed"]),
        heading=heading,
        lead=lead,
        warnings=_warnings(run),
        sections=sections,
        code=esc(run.manifest["code_version"]),
        script=viewer_script(),
        report_script=_asset("report.js"),
        token_script=_token_script(run),
    )


def _token_script(run: RunData) -> str:
    """CircuitsVis, once, and its calls, packed; nothing where the run kept no tokens."""
    calls = "\n".join(token_boxes(run, name)[1] for name in run.circuits)
    if not calls.strip():
        return ""
    return f'<script type="text/plain" id="token-script">{packed(token_script() + calls)}</script>\n'


def _headline(run: RunData) -> tuple[str, str]:
    behaviours = " and ".join(words(name) for name in run.summary["behaviours"])
    seconds = sum(stage.get("seconds", 0.0) for stage in run.manifest["stages"].values())
    return (
        f"Does <em>{esc(run.emotion)}</em> drive {behaviours}?",
        f"Emotion directions, the sparse features that carry them, the circuits to the deciding token, and the interventions that test each claim, in the model "
        f"<b>{esc(run.summary['model'])}</b>. Computed in {seconds / 60:.1f} minutes.",
    )


def _warnings(run: RunData) -> str:
    if not run.warnings:
        return ""
    return f'<div class="warn" role="note"><h2>Read this first</h2><ul>{"".join(f"<li>{esc(text)}</li>" for text in run.warnings)}</ul></div>'


def _asset(name: str) -> str:
    return (resources.files("emocircuits.report") / name).read_text(encoding="utf-8")
