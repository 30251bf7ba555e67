"""The files of a run directory by name, each read when it is asked for; no model is needed.

What an artifact is, is imported where it is asked for: who reads a table depends on no circuit.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from emocircuits.errors import UserError
from emocircuits.io.documents import read_json
from emocircuits.provenance import sha256_file

if TYPE_CHECKING:
    import emocircuits.artifacts.circuit
    import emocircuits.artifacts.directions
    import emocircuits.artifacts.scores


@dataclass
class RunFiles:
    """A run directory; remembers which files were read and their hashes.

    Attributes:
        directory: the run directory.
        read: file name -> SHA-256 of everything read so far.
    """

    directory: Path
    read: dict[str, str] = field(default_factory=dict)

    def path(self, name: str) -> Path | None:
        """The file of that name, noted as read, or None."""
        path = Path(self.directory) / name
        if not path.is_file():
            return None
        if name not in self.read:
            self.read[name] = sha256_file(path)
        return path

    def table(self, name: str) -> pd.DataFrame | None:
        """A CSV table of the run, or None."""
        path = self.path(name)
        if path is None:
            return None
        try:
            return pd.read_csv(path, keep_default_na=True)
        except (ValueError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is no CSV table ({error})", cure="run its stage again") from error

    def document(self, name: str) -> dict[str, Any] | None:
        """A JSON document of the run, or None."""
        path = self.path(name)
        return None if path is None else read_json(path)

    @property
    def scores(self) -> "dict[str, emocircuits.artifacts.scores.CircuitScores] | None":
        """What was measured about each circuit, by behaviour, or None."""
        from emocircuits.artifacts.scores import read_scores

        document = self.document("scores.json")
        return None if document is None else read_scores(document)

    @property
    def circuits(self) -> "dict[str, emocircuits.artifacts.circuit.CircuitGraph]":
        """Circuits by behaviour."""
        from emocircuits.artifacts.circuit import CircuitGraph

        names = sorted(path.name for path in Path(self.directory).glob("circuit_*.json"))
        return {name[len("circuit_") : -len(".json")]: CircuitGraph.load(self.path(name)) for name in names}

    @property
    def directions(self) -> "emocircuits.artifacts.directions.EmotionDirections | None":
        """The emotion directions, or None."""
        from emocircuits.artifacts.directions import EmotionDirections

        path = self.path("directions.h5")
        return None if path is None else EmotionDirections.load(path)
