"""Copies what is small of a finished run to where the documentation shows it: `python tools/ship_run.py
runs/smollm2 docs/runs/smollm2`. Circuits, tables, the summary and the report; no activations, no SAEs, no
directions.
"""

import shutil
import sys
from pathlib import Path

KEPT = (
    "manifest.json",
    "model.json",
    "summary.json",
    "scores.json",
    "overlap.json",
    "human_text.json",
    "report.html",
    "circuit_*.json",
    "evidence_*.json",
    "tokens_*.json",
    "directions.csv",
    "direction_sites.csv",
    "saes.csv",
    "steering.csv",
    "steering_slopes.csv",
    "trace.csv",
    "paths.csv",
)
MOST = 8 << 20  # bytes: it lies in git


def ship(run: Path, target: Path) -> int:
    """Copies; returns how many bytes."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for pattern in KEPT:
        for path in sorted(run.glob(pattern)):
            shutil.copyfile(path, target / path.name)
    size = sum(path.stat().st_size for path in target.iterdir())
    if size > MOST:
        raise SystemExit(f"{target} has {size / 2**20:.1f} MiB; expected at most {MOST / 2**20:.0f}")
    return size


if __name__ == "__main__":
    print(f"{ship(Path(sys.argv[1]), Path(sys.argv[2])) / 2**20:.1f} MiB")
