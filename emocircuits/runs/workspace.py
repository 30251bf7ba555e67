"""What the stages of one run share: the recipe, the directory, and the artifacts in it, read when first asked
for.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.artifacts.manifest import RunManifest
from emocircuits.artifacts.matches import FeatureMatches
from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.errors import UserError
from emocircuits.models.files import check_directory, content_hash, find_directory
from emocircuits.provenance import Provenance
from emocircuits.runs.recipe import Recipe

PLANTED = "planted"


@dataclass
class Workspace:
    """One run directory while its stages work. Artifacts are read from disk, so a resumed run sees what an
    unbroken one sees.
    """

    recipe: Recipe
    directory: Path
    trust_remote_code: bool = False
    manifest: RunManifest | None = None
    _model: list[Any] = field(default_factory=list)
    _bound: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def model_directory(self) -> Path:
        """Where the model's files lie; the planted model is written into the run directory when first asked
        for.
        """
        if self.recipe.model != PLANTED:
            return find_directory(
                self.recipe.model, revision=self.recipe.revision or None, code=self.trust_remote_code
            )
        from emocircuits.models.planted.model import write_planted_model

        directory = self.directory / "model"
        if not (directory / "config.json").is_file():
            write_planted_model(directory)
        return directory

    @cached_property
    def model_hash(self) -> str:
        """Content hash of the model's files (no model is loaded for it)."""
        check_directory(self.model_directory, trust_remote_code=self.trust_remote_code)
        return content_hash(self.model_directory)

    def path(self, name: str) -> Path:
        """A path in the run directory."""
        return self.directory / name

    @property
    def model(self) -> Any:
        """The language model, loaded and checked on first use (`emocircuits.models.LanguageModel`)."""
        if not self._model:
            self._model.append(self.load_model())
        return self._model[0]

    def load_model(self) -> Any:
        """The language model, loaded anew."""
        from emocircuits.models import load_model
        from emocircuits.ranks import use_threads
        from emocircuits.runs.budget import dtype_within

        use_threads(self.recipe.threads)
        name = str(self.model_directory) if self.recipe.model == PLANTED else self.recipe.model
        model = load_model(
            name,
            device=self.recipe.device,
            dtype=dtype_within(self.recipe, self.model_directory),
            trust_remote_code=self.trust_remote_code,
            revision=self.recipe.revision or None,
            device_map=self.recipe.device_map or None,
        )
        return replace(model, name=self.recipe.model)

    def behaviour(self, name: str) -> Any:
        """A behaviour bound to the model (`emocircuits.behaviours.bind.BoundBehaviour`)."""
        from emocircuits.behaviours import BEHAVIOURS
        from emocircuits.behaviours.bind import bind

        # scenarios in plain English are worded anew for every tokenizer, which takes a moment
        if name not in self._bound:
            self._bound[name] = bind(BEHAVIOURS.get(name), self.model)
        return self._bound[name]

    def pairs(self, name: str, split: str, limit: int) -> list[Any]:
        """Prompt pairs of a behaviour as `PairBatch`es on the run's device."""
        from emocircuits.passes.pairs import PairBatch

        device = self.recipe.device
        return [
            PairBatch(group.clean.to(device), group.corrupt.to(device), group.index)
            for group in self.behaviour(name).batches(self.model, split, limit)
        ]

    def provenance(self, command: str, *stages: str) -> Provenance:
        """Where a stage's artifact comes from: the outputs of the stages it read."""
        records = {} if self.manifest is None else self.manifest.stages
        inputs = {
            path: digest
            for stage in stages
            if stage in records
            for path, digest in records[stage].outputs.items()
        }
        return Provenance(command=command, seed=self.recipe.seed, inputs=inputs | {"model": self.model_hash})

    def store(self) -> ActivationStore:
        """The activations of the collect stage."""
        return ActivationStore.open(self.path("activations.h5"))

    def directions(self) -> EmotionDirections:
        """The directions of the directions stage."""
        return EmotionDirections.load(self.path("directions.h5"))

    def saes(self) -> dict[str, Any]:
        """The SAEs of the sae stage, by site, checked against the model."""
        return {site: self.sae(site) for site in self.model.sites}

    def sae(self, site: str) -> Any:
        """The SAE of one site; one that this run trained must belong to this run's model."""
        from emocircuits.sae import load_sae

        owner = None if self.recipe.sae_source.directory else self.model.content_hash
        return load_sae(self.path("saes") / site, site=site, d_in=self.model.d_model, model_hash=owner)

    def matches(self) -> FeatureMatches:
        """The matches of the match stage."""
        return FeatureMatches.load(self.path("matches.h5"))

    def attribution(self, behaviour: str) -> AttributionResult:
        """The attribution of one behaviour."""
        return AttributionResult.load(self.path(f"attribution_{behaviour}.h5"))

    @property
    def circuit_sites(self) -> tuple[str, ...]:
        """The sites a circuit covers: those behind `circuit.from_depth` (site i of n lies at (i + 1) / n)."""
        sites = tuple(self.model.sites)
        behind = tuple(
            site
            for place, site in enumerate(sites)
            if (place + 1) / len(sites) > self.recipe.circuit.from_depth + 1e-9
        )
        if not behind:
            raise UserError(
                f"circuit.from_depth {self.recipe.circuit.from_depth} leaves no site", expected="below 1"
            )
        return behind

    @property
    def gradient_steps(self) -> int:
        """Midpoints of the gradients behind effects and edges; 0 for the gradient of the corrupt run."""
        return self.recipe.attribute.steps if self.recipe.attribute.method == "integrated_gradients" else 0

    def circuit(self, behaviour: str) -> CircuitGraph:
        """The circuit of one behaviour."""
        return CircuitGraph.load(self.path(f"circuit_{behaviour}.json"))
