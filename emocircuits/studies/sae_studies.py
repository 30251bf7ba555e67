"""Questions about SAEs on the activations of a finished run: how good they are, how alike, how k, width and
kind matter.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.errors import UserError, unknown
from emocircuits.experiments.sae_quality import quality_rows
from emocircuits.io.documents import write_csv
from emocircuits.models.loading import AS_IT_IS, Loading
from emocircuits.names import short_site
from emocircuits.progress import say, track
from emocircuits.runs.opening import open_run
from emocircuits.runs.run import Run
from emocircuits.sae import (
    SAESettings,
    held_out_rows,
    load_sae,
    pca_fvu,
    reconstruction,
    seed_agreement,
    train_saes,
    training_rows,
)
from emocircuits.studies.texts import collected_texts

SWEEP = "sweep"


def evaluate_saes(
    directory: Path, saes: Path | None = None, *, floors: bool = False, loading: Loading = AS_IT_IS
) -> list[dict[str, Any]]:
    """One row of quality numbers per site; `pca_fvu` is that of as many principal components as the SAE has
    active features.

    Args:
        directory: a run directory whose collect stage is done.
        saes: directory of `<site>/cfg.json` and weights; by default the run's own.
        floors: also train the floors (see `sweep_saes`) with the run's settings at every site.
        loading: how the model is loaded.

    Raises:
        UserError: no run, or SAEs that are missing or do not fit.
    """
    study = _open(directory, loading)
    folder, store = saes or study.run.path("saes"), study.store
    loaded = {site: load_sae(folder / site, site=site, d_in=store.d_model) for site in store.sites}
    rows = []
    for site, sae in track(loaded.items(), "measure SAEs"):
        beside = study.floors(site, study.run.recipe.sae) if floors else {}
        rows.append({**study.measured(site, sae), **beside})
    return rows


def compare_saes(first: Path, second: Path) -> list[dict[str, Any]]:
    """One row per site that both directories have: how well features pair up, and what chance gives.

    Raises:
        UserError: no site in common, or SAEs that cannot be read or differ in size.
    """
    sites = sorted(
        {path.parent.name for path in first.glob("*/cfg.json")}
        & {path.parent.name for path in second.glob("*/cfg.json")}
    )
    if not sites:
        raise UserError(
            f"{first} and {second} have no SAE of the same site", expected="<site>/cfg.json in both"
        )
    return [
        {"site": site, **asdict(seed_agreement(load_sae(first / site), load_sae(second / site)))}
        for site in track(sites, "compare SAEs")
    ]


def sweep_saes(
    directory: Path,
    architectures: Sequence[str],
    numbers: Sequence[int],
    *,
    expansions: Sequence[int] = (),
    site: str | None = None,
    training_rows: int | None = None,
    floors: bool = False,
    loading: Loading = AS_IT_IS,
) -> list[dict[str, Any]]:
    """Trains and measures an SAE for every kind, width and k at one site, and draws L0 against FVU and loss
    recovered.

    Everything is kept in `<run>/sweep` (`sweep.csv`, `sae_pareto.*`), so a second call resumes and adds to
    the table.

    Args:
        directory: a run directory whose collect stage is done.
        architectures, numbers, expansions: kinds, k and d_sae / d_model, every combination; the run's width
            by default.
        site: which site; the middle one by default.
        training_rows: rows drawn; as the run's recipe by default.
        floors: also train each with a frozen random decoder (`frozen_fvu`) and on the activations of the
            model with shuffled weights (`randomised_fvu`).
        loading: how the model is loaded.

    Raises:
        UserError: no run, an unknown site or kind, or k that is too large.
    """
    study = _open(directory, loading)
    store, recipe = study.store, study.run.recipe
    site = site or store.sites[len(store.sites) // 2]
    if site not in store.sites:
        raise unknown("site", site, store.sites)
    base = recipe.sae
    base = base if training_rows is None else replace(base, training_rows=training_rows)
    every = [
        replace(base, architecture=name, k=k, expansion=expansion)
        for name in architectures
        for expansion in expansions or (base.expansion,)
        for k in numbers
    ]
    rows = []
    for number, settings in enumerate(every, 1):
        say(
            f"{number} of {len(every)}: {settings.architecture}, d_sae "
            f"{settings.d_sae(store.d_model)}, k {settings.k}"
        )
        sae = study.trained(store, site, settings)
        row = {"k": settings.k, **study.measured(site, sae), "architecture": settings.architecture}
        rows.append({**row, **(study.floors(site, settings) if floors else {})})
        _keep(study.run, rows)
    return rows


@dataclass
class _Study:
    """A run whose activations are studied."""

    run: Run

    @cached_property
    def store(self) -> ActivationStore:
        return self.run.store

    def measured(self, site: str, sae: Any) -> dict[str, Any]:
        row = quality_rows(self.run.model.bridge, {site: sae}, self.store)[0]
        learned, held = training_rows(self.store), held_out_rows(self.store, site)
        return {**row, "pca_fvu": pca_fvu(self.store, site, learned, held, round(row["l0"]))}

    def trained(self, store: ActivationStore, site: str, settings: SAESettings, folder: str = SWEEP) -> Any:
        """The SAE of these settings, trained where it is not there yet."""
        width = f"-x{settings.expansion}" if settings.expansion != self.run.recipe.sae.expansion else ""
        name = f"{settings.architecture}{width}-k{settings.k}" + (
            "-frozen" if settings.frozen_decoder else ""
        )
        out = self.run.path(folder) / name
        recipe = self.run.recipe
        return train_saes(store, out, settings, layers=[site], seed=recipe.seed, device=recipe.device)[site]

    def floors(self, site: str, settings: SAESettings) -> dict[str, float]:
        """FVU with a frozen random decoder, and of an SAE of the model with shuffled weights on that model's
        activations.
        """
        frozen = self.trained(self.store, site, replace(settings, frozen_decoder=True))
        shuffled = self.randomised_store(site)
        other = self.trained(shuffled, site, settings, f"{SWEEP}/randomised/saes")
        return {
            "frozen_fvu": reconstruction(frozen, self.store, site, held_out_rows(self.store, site)).fvu,
            "randomised_fvu": reconstruction(other, shuffled, site, held_out_rows(shuffled, site)).fvu,
        }

    def randomised_store(self, site: str) -> ActivationStore:
        """Activations of the run's texts at one site in the model with shuffled weights; collected once."""
        from emocircuits.activations import collect
        from emocircuits.models.randomised import shuffle_weights

        path = self.run.path(f"{SWEEP}/randomised/{short_site(site)}.h5")
        model = shuffle_weights(self.run.load_model(), self.run.recipe.seed)
        return collect(model, collected_texts(self.run), path, layers=[site], replace=True)


def _open(directory: Path, loading: Loading) -> _Study:
    return _Study(open_run(directory, loading))


def _keep(run: Run, rows: list[dict[str, Any]]) -> None:
    """Adds rows to `sweep/sweep.csv` (the latest of each combination stays) and draws the figure again."""
    from emocircuits.figures import write_figures

    path = run.path(SWEEP) / "sweep.csv"
    table = pd.DataFrame(rows)
    if path.is_file():
        table = pd.concat([pd.read_csv(path), table], ignore_index=True)
    table = table.drop_duplicates(["architecture", "site", "d_sae", "k"], keep="last")
    write_csv(path, table.sort_values(["site", "architecture", "d_sae", "k"]))
    write_figures(run.directory, run.path(SWEEP), only=("sae_pareto",))
