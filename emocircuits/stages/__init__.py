"""The stages of a run, in their order. Adding one is one file and its place in this list."""

from emocircuits.runs.stage import STAGES, Output, Stage

from emocircuits.stages import (  # isort: skip - the order is the order of the run
    plan,
    collect,
    directions,
    sae,
    match,
    attribute,
    circuit,
    evaluate,
    steer,
    export,
    figures,
    report,
)

for _module in (
    plan,
    collect,
    directions,
    sae,
    match,
    attribute,
    circuit,
    evaluate,
    steer,
    export,
    figures,
    report,
):
    STAGES.add(_module.STAGE)

__all__ = ["STAGES", "Output", "Stage"]
