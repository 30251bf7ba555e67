"""One run: a directory with a recipe, the record of its stages, and their artifacts."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from emocircuits.artifacts.manifest import RunManifest
from emocircuits.artifacts.run_files import RunFiles
from emocircuits.errors import UserError
from emocircuits.io.documents import read_json
from emocircuits.keep import PartKeeper, always_make
from emocircuits.names import chosen_layers, residual_site
from emocircuits.provenance import Provenance
from emocircuits.runs.recipe import Recipe, recipe_from_dict

if TYPE_CHECKING:
    import emocircuits.artifacts.attribution
    import emocircuits.artifacts.circuit
    import emocircuits.artifacts.directions
    import emocircuits.artifacts.evidence
    import emocircuits.artifacts.matches
    import emocircuits.artifacts.scores
    import emocircuits.artifacts.store.activation_store
    import emocircuits.models.language_model
    import emocircuits.passes.task

MANIFEST = "manifest.json"
PLANTED = "planted"


class Run:
    """A run directory, finished or not. Artifacts are read when they are first asked for.

    What needs torch or a model is imported where it is asked for: tables and documents are read without.

    Attributes:
        directory: the run directory.
        recipe: its settings.
        files: its files by name, None where one is absent.
        trust_remote_code: whether the model directory may run its own code.
        checks: whether the load-time checks are run when the model is loaded.
        keep: how parts of long work are kept; a stage keeps them until it is done, otherwise they are not.
    """

    def __init__(
        self,
        directory: str | Path,
        recipe: Recipe,
        *,
        trust_remote_code: bool = False,
        checks: bool = True,
    ):
        self.directory, self.recipe = Path(directory), recipe
        self.trust_remote_code, self.checks = trust_remote_code, checks
        self.files = RunFiles(self.directory)
        self.keep: PartKeeper = always_make
        self._kept: dict[str, Any] = {}
        self._bound: dict[str, Any] = {}

    def __repr__(self) -> str:
        done = ", ".join(self.manifest.stages) if (self.directory / MANIFEST).exists() else "nothing"
        return f"Run({str(self.directory)!r}, model {self.recipe.model!r}, done: {done})"

    @classmethod
    def open(
        cls,
        directory: str | Path,
        overrides: Sequence[str] = (),
        *,
        trust_remote_code: bool = False,
        checks: bool = True,
    ) -> "Run":
        """The run in a directory, as far as it is done.

        Args:
            directory: the run directory.
            overrides: `key=value` texts that change its recipe.
            trust_remote_code: let the model directory run its own code.
            checks: run the load-time checks when the model is loaded.

        Raises:
            UserError: there is no run, or its recipe has keys that are not known any more.
        """
        directory = Path(directory)
        if not (directory / MANIFEST).exists():
            raise UserError(
                f"{directory} holds no run",
                expected=f"a directory with {MANIFEST}",
                cure=f"emocircuits run --out {directory}",
            )
        saved = RunManifest.load(directory / MANIFEST).recipe
        try:
            recipe_from_dict(saved)
        except UserError as error:
            raise UserError(
                f"the run in {directory} was made by another version ({error.what})",
                cure=f"run it again: emocircuits run RECIPE --out {directory}",
            ) from error
        recipe = recipe_from_dict(saved, tuple(overrides))
        return cls(directory, recipe, trust_remote_code=trust_remote_code, checks=checks)

    @classmethod
    def make(
        cls,
        directory: str | Path,
        recipe: str | Path | Recipe | None = None,
        *,
        until: str = "report",
        trust_remote_code: bool = False,
    ) -> "Run":
        """The run in a directory, done up to a stage. A run that is there is taken as it is; what it lacks is
        made.

        Args:
            directory: the run directory.
            recipe: what to run where there is no run: a TOML file, an embedded recipe's name or its settings;
                the default recipe if None. A run that is there keeps its own.
            until: the last stage that is needed; the stages it needs are done, too.
            trust_remote_code: let the model directory run its own code.

        Raises:
            UserError: an unknown stage or recipe, or what `emocircuits.runs.execute.run_pipeline` refuses.
        """
        from emocircuits.runs.execute import run_up_to

        return run_up_to(directory, recipe, until=until, trust_remote_code=trust_remote_code)

    # its files

    def path(self, name: str) -> Path:
        """A path in the run directory."""
        return self.directory / name

    def table(self, name: str) -> pd.DataFrame:
        """A CSV table of the run.

        Raises:
            UserError: the run has no such file.
        """
        return self._there(self.files.table(name), name)

    def document(self, name: str) -> dict[str, Any]:
        """A JSON document of the run.

        Raises:
            UserError: the run has no such file.
        """
        return self._there(self.files.document(name), name)

    @property
    def manifest(self) -> RunManifest:
        """The record of its finished stages."""
        return RunManifest.load(self.directory / MANIFEST)

    @property
    def scores(self) -> "dict[str, emocircuits.artifacts.scores.CircuitScores]":
        """What was measured about each circuit, by behaviour."""
        return self._there(self.files.scores, "scores.json")

    @property
    def summary(self) -> dict[str, Any]:
        """The numbers of the run."""
        return self.document("summary.json")

    def provenance(self, command: str, *stages: str) -> Provenance:
        """Where a stage's artifact comes from: the outputs of the stages it read."""
        records = self.manifest.stages
        inputs = {
            path: digest
            for stage in stages
            if stage in records
            for path, digest in records[stage].outputs.items()
        }
        return Provenance(command=command, seed=self.recipe.seed, inputs=inputs | {"model": self.model_hash})

    # its model

    @cached_property
    def model_directory(self) -> Path:
        """Where the model's files lie; the planted model is written into the run directory when first asked
        for.
        """
        from emocircuits.models.files import find_directory

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
    def model_config(self) -> dict[str, Any]:
        """The configuration of the model, whose files are checked first (no model is loaded for it)."""
        from emocircuits.models.files import check_directory

        return check_directory(self.model_directory, trust_remote_code=self.trust_remote_code)

    @cached_property
    def model_hash(self) -> str:
        """Content hash of the model's files (no model is loaded for it)."""
        from emocircuits.models.files import model_files_hash

        assert self.model_config
        return model_files_hash(self.model_directory)

    @property
    def planned_depth(self) -> int:
        """Blocks of the model before it is loaded: as its configuration says, or 0 where it does not."""
        from emocircuits.models.files import sizes_in

        sizes = sizes_in(self.model_config)
        return 0 if sizes is None else sizes[0]

    @property
    def planned_sites(self) -> tuple[str, ...]:
        """The sites that the run will look at; () where the model's configuration does not say its depth.

        Raises:
            UserError: the recipe names layers that the model does not have.
        """
        depth = self.planned_depth
        chosen = chosen_layers(self.recipe.layers, depth) if depth else ()
        return tuple(residual_site(layer) for layer in chosen)

    @cached_property
    def model(self) -> "emocircuits.models.language_model.LanguageModel":
        """The language model, loaded and checked."""
        return self.load_model()

    def load_model(self) -> "emocircuits.models.language_model.LanguageModel":
        """The language model, loaded again."""
        from emocircuits.models import load_model
        from emocircuits.runs.budget import dtype_within
        from emocircuits.threads import use_threads

        use_threads(self.recipe.threads)
        name = str(self.model_directory) if self.recipe.model == PLANTED else self.recipe.model
        model = load_model(
            name,
            device=self.recipe.device,
            dtype=dtype_within(self.recipe, self.model_directory),
            trust_remote_code=self.trust_remote_code,
            revision=self.recipe.revision or None,
            device_map=self.recipe.device_map or None,
            checks=self.checks,
        )
        layers = chosen_layers(self.recipe.layers, model.n_layers) if self.recipe.layers else ()
        return replace(model, name=self.recipe.model, layers=layers)

    def with_model(self, model: "emocircuits.models.language_model.LanguageModel") -> "Run":
        """The same run with another copy of its model: artifacts are shared, behaviours are bound again."""
        run = copy.copy(self)
        run._bound, run.__dict__["model"] = {}, model
        return run

    # its artifacts

    @property
    def store(self) -> "emocircuits.artifacts.store.activation_store.ActivationStore":
        """The activations of the collect stage."""
        from emocircuits.artifacts.store.activation_store import ActivationStore

        return self._once("store", lambda: ActivationStore.open(self.path("activations.h5")))

    @property
    def directions(self) -> "emocircuits.artifacts.directions.EmotionDirections":
        """The emotion directions with their controls.

        Raises:
            UserError: the run has none.
        """
        return self._once("directions", lambda: self._there(self.files.directions, "directions.h5"))

    @property
    def saes(self) -> dict[str, Any]:
        """The SAEs by site."""
        return {site: self.sae(site) for site in self.model.sites}

    def sae(self, site: str) -> Any:
        """The SAE of one site; one that this run trained must belong to this run's model."""
        from emocircuits.sae.loading.handle import load_sae

        owner = None if self.recipe.sae_source.directory else self.model.content_hash
        return self._once(
            f"sae {site}",
            lambda: load_sae(self.path("saes") / site, site=site, d_in=self.model.d_model, model_hash=owner),
        )

    @property
    def matches(self) -> "emocircuits.artifacts.matches.FeatureMatches":
        """The matches of SAE features with emotions."""
        from emocircuits.artifacts.matches import FeatureMatches

        return self._once("matches", lambda: FeatureMatches.load(self.path("matches.h5")))

    def attribution(self, behaviour: str) -> "emocircuits.artifacts.attribution.AttributionResult":
        """The attribution of one behaviour."""
        from emocircuits.artifacts.attribution import AttributionResult

        return AttributionResult.load(self.path(f"attribution_{behaviour}.h5"))

    def circuit(self, behaviour: str) -> "emocircuits.artifacts.circuit.CircuitGraph":
        """The circuit of one behaviour."""
        from emocircuits.artifacts.circuit import CircuitGraph

        return CircuitGraph.load(self.path(f"circuit_{behaviour}.json"))

    def evidence(self, behaviour: str) -> "emocircuits.artifacts.evidence.CircuitEvidence":
        """What was measured around one behaviour's circuit."""
        from emocircuits.artifacts.run_evidence import run_evidence

        return run_evidence(self.files, behaviour)

    # its behaviours

    def behaviour(self, name: str) -> Any:
        """A behaviour bound to the model (`emocircuits.behaviours.bind.BoundBehaviour`)."""
        from emocircuits.behaviours import BEHAVIOURS
        from emocircuits.behaviours.bind import bind

        # scenarios in plain English are worded again for every tokenizer, which takes a moment
        if name not in self._bound:
            self._bound[name] = bind(BEHAVIOURS.get(name), self.model, own=self._own_words(name))
        return self._bound[name]

    def _own_words(self, name: str) -> Any:
        """The model's own words of a behaviour, as the plan stage chose them."""
        from emocircuits.behaviours.own_words import OwnWords

        if not self.path("model.json").is_file():
            return None
        about = read_json(self.path("model.json"))
        told = about.get("behaviours", {}).get(name, {}).get("own")
        return OwnWords.of(told) if told and about["content_hash"] == self.model.content_hash else None

    def tasks(self, name: str) -> "tuple[emocircuits.passes.task.Task, emocircuits.passes.task.Task]":
        """A behaviour as two tasks, with the SAEs of all sites: the prompts that circuits are found on, and
        those that they are scored on (`attribute.pairs` and `evaluate.pairs` of them).
        """
        recipe, bound = self.recipe, self.behaviour(name)
        limits = {"find": recipe.attribute.pairs, "score": recipe.evaluate.pairs}
        find, score = (
            bound.task(split, self.saes, limit=limit, max_tokens=recipe.attribute.max_tokens)
            for split, limit in limits.items()
        )
        return find, score

    @property
    def circuit_sites(self) -> tuple[str, ...]:
        """The sites a circuit covers: those after `circuit.from_depth`.

        Raises:
            UserError: there is none.
        """
        return self.recipe.circuit.sites(self.model.sites, self.model.n_layers)

    # what is kept in memory

    def forget(self) -> None:
        """Lets go of the artifacts read so far; the model stays."""
        self._kept.clear()

    def _once(self, name: str, read: Any) -> Any:
        if name not in self._kept:
            self._kept[name] = read()
        return self._kept[name]

    def _there(self, value: Any, name: str) -> Any:
        if value is None:
            raise UserError(f"{self.directory} has no {name}", cure=f"emocircuits run --out {self.directory}")
        return value
