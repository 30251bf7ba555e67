"""The parts of the report, top to bottom, one file each.

A part is a `TITLE` and `build(run, pictures)`: the files of a run and its drawn figures -> HTML. Every number
in it is read from the run's files.
"""

from emocircuits.report.parts import (
    answer,
    asked,
    checks,
    circuits,
    directions,
    matches,
    model,
    provenance,
    saes,
    steering,
    trace,
)

PARTS = {
    "asked": asked,
    "answer": answer,
    "model": model,
    "directions": directions,
    "saes": saes,
    "matches": matches,
    "trace": trace,
    "circuits": circuits,
    "steering": steering,
    "checks": checks,
    "provenance": provenance,
}
