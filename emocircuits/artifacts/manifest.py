"""The manifest of a run directory: which stage was done with what, and whether it is still fresh."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from emocircuits.io.documents import read_json, write_json
from emocircuits.provenance import sha256_file

SCHEMA, VERSION = "emocircuits.run", 1


@dataclass(frozen=True)
class StageRecord:
    """One finished stage.

    Attributes:
        key: hash of the stage's settings, its inputs' hashes and the code it depends on.
        outputs: path in the run directory -> content hash.
        seconds: wall time of the stage, resumed parts not included.
        peak_rss_mb: largest resident memory of the process (and its children) up to the end of the stage,
            MiB.
        warnings: what the reader of the results should know.
    """

    key: str
    outputs: dict[str, str]
    seconds: float
    peak_rss_mb: float = 0.0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunManifest:
    """What a run directory holds: the recipe, the model, and the record of every finished stage."""

    recipe: dict[str, Any]
    model: dict[str, Any]
    seed: int
    code_version: str
    stages: dict[str, StageRecord] = field(default_factory=dict)

    def with_stage(self, name: str, record: StageRecord) -> "RunManifest":
        """A manifest that also records this stage."""
        return replace(self, stages={**self.stages, name: record})

    def is_fresh(self, name: str, key: str, run_dir: Path) -> bool:
        """Whether the stage was finished with this key and its outputs are still what it wrote."""
        record = self.stages.get(name)
        if record is None or record.key != key:
            return False
        paths = [(run_dir / path, digest) for path, digest in record.outputs.items()]
        return all(path.is_file() and sha256_file(path) == digest for path, digest in paths)

    def save(self, path: str | Path) -> None:
        """Writes `manifest.json` atomically."""
        write_json(path, asdict(self), schema=SCHEMA, version=VERSION)

    @classmethod
    def load(cls, path: str | Path) -> "RunManifest":
        """Reads `manifest.json`."""
        value = read_json(path, schema=SCHEMA, version=VERSION)
        stages = {
            name: StageRecord(**{**record, "warnings": tuple(record["warnings"])})
            for name, record in value["stages"].items()
        }
        return cls(
            recipe=value["recipe"],
            model=value["model"],
            seed=value["seed"],
            code_version=value["code_version"],
            stages=stages,
        )
