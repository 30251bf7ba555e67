"""The stages of a run, in their order. Adding one is one file and its place in this list."""

from typing import Any

ORDER = (
    "plan",
    "collect",
    "directions",
    "sae",
    "match",
    "attribute",
    "circuit",
    "evaluate",
    "steer",
    "export",
    "figures",
    "report",
)


def __getattr__(name: str) -> Any:
    if name == "STAGES":
        from emocircuits.runs.stage import stages

        return stages()
    raise AttributeError(f"module 'emocircuits.stages' has no attribute '{name}'")
