"""Stages, hashes, settings, versions."""

import platform
from importlib import metadata

from emocircuits.io.documents import read_json
from emocircuits.report.pictures import Pictures
from emocircuits.report.run_data import RunData
from emocircuits.report.tables import Cell, details, facts, table
from emocircuits.report.text import esc, flat, shown

TITLE = "Provenance"
VERSIONS = ("numpy", "scipy", "torch", "transformers", "transformer-lens", "sae-lens", "h5py", "matplotlib")


def build(run: RunData, pictures: Pictures) -> str:
    """What the numbers came from, stage by stage."""
    stages = run.manifest["stages"]
    about = [
        ("code version", Cell(f"<code>{esc(run.manifest['code_version'])}</code>")),
        ("seed", run.manifest["seed"]),
        ("peak memory (MiB)", run.summary.get("peak_rss_mb")),
    ]
    costs = [
        [
            name,
            stage.get("seconds"),
            stage.get("peak_rss_mb"),
            Cell(f"<code>{esc(str(stage.get('key', ''))[:12])}</code>"),
        ]
        for name, stage in stages.items()
    ]
    outputs = [
        [name, path, Cell(f'<code title="{esc(digest)}">{esc(str(digest)[:16])}</code>')]
        for name, stage in stages.items()
        for path, digest in stage.get("outputs", {}).items()
    ]
    settings = [[key, shown(value)] for key, value in flat(run.recipe)]
    return (
        facts(about)
        + table(["stage", "seconds", "peak memory (MiB)", "key"], costs)
        + _model_checks(run)
        + details("Output files and their SHA-256", table(["stage", "file", "sha-256"], outputs, tall=True))
        + details("All settings", table(["setting", "value"], settings, tall=True))
        + details("Versions", table(["package", "version"], versions()))
    )


def _model_checks(run: RunData) -> str:
    """What was checked when the model was loaded, and what was measured."""
    path = run.directory / "model.json"
    checks = read_json(path).get("checks", ()) if path.is_file() else ()
    if not checks:
        return ""
    rows = [
        [check["name"], "passed" if check["passed"] else "failed", check["value"], check["detail"]]
        for check in checks
    ]
    heads = ["check", "result", "measured", "what"]
    return "<h3>Checks of the model when it was loaded</h3>" + table(heads, rows)


def versions() -> list[list[str]]:
    """Python and the packages the numbers depend on."""
    rows = [["python", platform.python_version()]]
    for name in VERSIONS:
        try:
            rows.append([name, metadata.version(name)])
        except metadata.PackageNotFoundError:
            rows.append([name, "not installed"])
    return rows
