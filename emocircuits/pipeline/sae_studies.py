"""Questions about SAEs on the activations of a finished run: how good they are, how alike, and how k and kind matter."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from emocircuits.errors import UserError, unknown
from emocircuits.pipeline.run import open_run
from emocircuits.pipeline.stages.sae import training_settings
from emocircuits.pipeline.workspace import Workspace
from emocircuits.progress import track
from emocircuits.sae import SAESettings, agreement, held_out_rows, load_sae, pca_fvu, quality_row, train_saes, training_rows


def evaluate_saes(directory: Path, saes: Path | None = None, *, trust_remote_code: bool = False) -> list[dict[str, Any]]:
    """One row of quality numbers per site; `pca_fvu` is that of as many principal components as the SAE has active features.

    Args:
        directory: a run directory whose collect stage is done.
        saes: directory of `<site>/cfg.json` and weights; by default the run's own.
        trust_remote_code: let the model directory run its own code.

    Raises:
        UserError: no run, or SAEs that are missing or do not fit.
    """
    recipe, manifest = open_run(directory)
    workspace = Workspace(recipe, directory, trust_remote_code, manifest)
    store = workspace.store()
    folder = saes or workspace.path("saes")
    loaded = {site: load_sae(folder / site, site=site, d_in=store.d_model) for site in store.sites}
    return [_measured(workspace, store, site, sae) for site, sae in track(loaded.items(), "measure SAEs")]


def compare_saes(first: Path, second: Path) -> list[dict[str, Any]]:
    """One row per site that both directories have: how well features pair up, and what chance gives.

    Raises:
        UserError: no site in common, or SAEs that cannot be read or differ in size.
    """
    sites = sorted(
        {path.parent.name for path in first.glob("*/cfg.json")} & {path.parent.name for path in second.glob("*/cfg.json")}
    )
    if not sites:
        raise UserError(f"{first} and {second} have no SAE of the same site", expected="<site>/cfg.json in both")
    return [
        {"site": site, **asdict(agreement(load_sae(first / site), load_sae(second / site)))}
        for site in track(sites, "compare SAEs")
    ]


def sweep_saes(
    directory: Path,
    architectures: list[str],
    numbers: list[int],
    *,
    site: str | None = None,
    training_rows: int | None = None,
    floors: bool = False,
    trust_remote_code: bool = False,
) -> list[dict[str, Any]]:
    """Trains and measures an SAE for every kind and k at one site; kept in `<run>/sweep`, so a second call goes on.

    Args:
        directory: a run directory whose collect stage is done.
        architectures, numbers: kinds and k, every combination.
        site: which site; the middle one by default.
        training_rows: rows drawn; as the run's recipe by default.
        floors: also train each with a frozen random decoder; its FVU stands beside as `frozen_fvu`.
        trust_remote_code: let the model directory run its own code.

    Raises:
        UserError: no run, an unknown site or kind, or k that is too large.
    """
    recipe, manifest = open_run(directory)
    workspace = Workspace(recipe, directory, trust_remote_code, manifest)
    store = workspace.store()
    site = site or store.sites[len(store.sites) // 2]
    if site not in store.sites:
        raise unknown("site", site, store.sites)
    changes = {} if training_rows is None else {"training_rows": training_rows}
    every = [
        replace(training_settings(recipe), architecture=name, k=k, **changes) for name in architectures for k in numbers
    ]
    rows = []
    for settings in every:
        row = {"k": settings.k, **_trained(workspace, store, site, settings), "architecture": settings.architecture}
        if floors:
            row["frozen_fvu"] = _trained(workspace, store, site, replace(settings, frozen_decoder=True))["fvu"]
        rows.append(row)
    return rows


def _trained(workspace: Workspace, store: Any, site: str, settings: SAESettings) -> dict[str, Any]:
    name = f"{settings.architecture}-k{settings.k}" + ("-frozen" if settings.frozen_decoder else "")
    out = workspace.path("sweep") / name
    path = train_saes(store, [site], settings, out, workers=1, device=workspace.recipe.device)[site]
    return _measured(workspace, store, site, load_sae(path, site=site, d_in=store.d_model))


def _measured(workspace: Workspace, store: Any, site: str, sae: Any) -> dict[str, Any]:
    row = quality_row(workspace.model.bridge, sae, store, site)
    return {**row, "pca_fvu": pca_fvu(store, site, training_rows(store), held_out_rows(store), round(row["l0"]))}
