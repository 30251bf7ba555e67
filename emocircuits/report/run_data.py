"""What the report reads: the files of one finished run, each checked to be there."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.artifacts.evidence import CircuitEvidence
from emocircuits.artifacts.run_evidence import run_evidence
from emocircuits.artifacts.run_files import RunFiles
from emocircuits.artifacts.scores import CircuitScores
from emocircuits.errors import UserError
from emocircuits.io.documents import read_json


@dataclass(frozen=True)
class RunData:
    """The tables and documents of a run directory.

    Attributes:
        directory: the run directory.
        manifest, summary: its JSON documents.
        scores: what was measured about each circuit.
        directions, saes, matches, steering: its tables.
        circuits: by behaviour.
        evidence: what was measured around each circuit.
        tokens: readings and attention on each circuit's example, or None.
    """

    directory: Path
    manifest: dict[str, Any]
    summary: dict[str, Any]
    scores: dict[str, CircuitScores]
    directions: pd.DataFrame
    saes: pd.DataFrame
    matches: pd.DataFrame
    steering: pd.DataFrame
    circuits: dict[str, CircuitGraph]
    evidence: dict[str, CircuitEvidence] = field(default_factory=dict)
    tokens: dict[str, Any] = field(default_factory=dict)

    @property
    def recipe(self) -> dict[str, Any]:
        """The settings of the run."""
        return self.manifest["recipe"]

    @property
    def emotion(self) -> str:
        """The emotion the run asks about."""
        return str(self.recipe.get("emotion", "desperate"))

    @property
    def opposite(self) -> str:
        """The emotion at the other end."""
        return str(self.recipe.get("opposite", "calm"))

    @property
    def warnings(self) -> list[str]:
        """Warnings of the summary and of every stage, each once."""
        texts = [str(text) for text in self.summary.get("warnings", [])]
        texts += [
            f"{name}: {text}"
            for name, stage in self.manifest["stages"].items()
            for text in stage.get("warnings", [])
        ]
        return [text for i, text in enumerate(texts) if not any(text.endswith(other) for other in texts[:i])]


def read_run(run_dir: str | Path) -> RunData:
    """Reads a run directory.

    Raises:
        UserError: a file is missing or broken; the message names the file and the stage that writes it.
    """
    run = RunFiles(Path(run_dir))

    def need(value: Any, name: str, stage: str) -> Any:
        if value is None:
            raise UserError(
                f"{Path(run_dir) / name} does not exist",
                expected="a run with every stage before the report done",
                cure=f"run the stage '{stage}' first",
            )
        return value

    manifest = read_json(
        need(run.path("manifest.json"), "manifest.json", "plan"), schema="emocircuits.run", version=1
    )
    circuits = run.circuits
    need(circuits or None, "circuit_<behaviour>.json", "circuit")
    return RunData(
        directory=Path(run_dir),
        manifest=manifest,
        summary=need(run.document("summary.json"), "summary.json", "report"),
        scores=need(run.scores, "scores.json", "evaluate"),
        circuits=circuits,
        evidence={name: run_evidence(run, name) for name in circuits},
        tokens={name: run.document(f"tokens_{name}.json") for name in circuits},
        **{
            name: need(run.table(f"{name}.csv"), f"{name}.csv", stage)
            for name, stage in (
                ("directions", "directions"),
                ("saes", "sae"),
                ("matches", "match"),
                ("steering", "steer"),
            )
        },
    )
