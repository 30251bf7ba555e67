"""SAEs by name on the activations of a run: entering them in a registry, and measuring them again."""

from pathlib import Path
from typing import Any

from emocircuits.errors import UserError
from emocircuits.experiments.sae_quality import quality_rows
from emocircuits.models.loading import AS_IT_IS, Loading
from emocircuits.runs.opening import open_run
from emocircuits.sae import load_sae
from emocircuits.sae.loading.registered import Quality, entry_of, find_registered, register
from emocircuits.studies.sae_sources import open_verified


def register_saes(
    directory: Path,
    saes: Path,
    name: str,
    registry: Path,
    *,
    recipe: str = "",
    loading: Loading = AS_IT_IS,
) -> list[dict[str, Any]]:
    """Measures the SAEs of a directory on a run's held-out rows and enters them; one row of numbers per site.

    Args:
        directory: a run directory whose collect stage is done.
        saes: directory `<site>/cfg.json` and weights, below the registry's directory.
        name: name of the entries.
        registry: the registry; made when missing.
        recipe: the recipe they were trained with.
        loading: how the model is loaded.

    Raises:
        UserError: no run, no SAEs, SAEs that do not fit, or SAEs that lie elsewhere.
    """
    run = open_run(directory, loading)
    store, model = run.store, run.model
    found = [site for site in store.sites if (saes / site).is_dir()]
    if not found:
        raise UserError(
            f"{saes} has no SAE for any of {', '.join(store.sites)}", expected="<site>/cfg.json and weights"
        )
    loaded = {
        site: load_sae(saes / site, site=site, d_in=store.d_model, model_hash=model.content_hash)
        for site in found
    }
    rows, entries = quality_rows(model.bridge, loaded, store), []
    for row in rows:
        site = row["site"]
        quality = Quality(
            **{key: row[key] for key in ("l0", "fvu", "ce_loss_recovered", "dead_fraction", "tokens")},
            data=f"held-out rows of {store.n_prompts} texts of the recipe {run.recipe.name}",
            data_hash=store.content_hash,
        )
        about = {"model": model.name, "model_hash": model.content_hash, "revision": "", "recipe": recipe}
        entries.append(entry_of(loaded[site], saes / site, registry, name=name, quality=quality, **about))
    register(registry, entries)
    return rows


def check_saes(
    directory: Path, name: str, registry: Path, *, loading: Loading = AS_IT_IS
) -> list[dict[str, Any]]:
    """Measures registered SAEs on a run's held-out rows; one row of numbers per site.

    Raises:
        UserError: an unknown name, SAEs of another model, or L0 or FVU far from what was recorded.
    """
    run = open_run(directory, loading)
    store, known = run.store, find_registered(registry, name)
    saes = {site: open_verified(run, registry, name, site) for site in store.sites if site in known}
    if not saes:
        raise UserError(f"{name} has no SAE for any site of {store.path}", expected=", ".join(store.sites))
    return quality_rows(run.model.bridge, saes, store)
