"""SAEs by name on the activations of a run: entering them in a registry, measuring them, using them instead
of training.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from sae_lens import SAE
from torch import Tensor

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.errors import UserError
from emocircuits.experiments.sae_quality import quality_rows
from emocircuits.runs.run import Run
from emocircuits.sae import held_out_rows, load_sae
from emocircuits.sae.loading.registered import Quality, entry_of, find_registered, open_registered, register
from emocircuits.sae.rows import evenly_spaced

CHECKED_ROWS = 1 << 14


def register_saes(
    directory: Path,
    saes: Path,
    name: str,
    registry: Path,
    *,
    recipe: str = "",
    trust_remote_code: bool = False,
) -> list[dict[str, Any]]:
    """Measures the SAEs of a directory on a run's held-out rows and enters them; one row of numbers per site.

    Args:
        directory: a run directory whose collect stage is done.
        saes: directory `<site>/cfg.json` and weights, below the registry's directory.
        name: name of the entries.
        registry: the registry; made when missing.
        recipe: the recipe they were trained with.
        trust_remote_code: let the model directory run its own code.

    Raises:
        UserError: no run, no SAEs, SAEs that do not fit, or SAEs that lie elsewhere.
    """
    run = _open(directory, trust_remote_code)
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
    directory: Path, name: str, registry: Path, *, trust_remote_code: bool = False
) -> list[dict[str, Any]]:
    """Measures registered SAEs on a run's held-out rows; one row of numbers per site.

    Raises:
        UserError: an unknown name, SAEs of another model, or L0 or FVU far from what was recorded.
    """
    run = _open(directory, trust_remote_code)
    store, known = run.store, find_registered(registry, name)
    saes = {site: open_verified(run, store, registry, name, site) for site in store.sites if site in known}
    if not saes:
        raise UserError(f"{name} has no SAE for any site of {store.path}", expected=", ".join(store.sites))
    return quality_rows(run.model.bridge, saes, store)


def open_verified(run: Run, store: ActivationStore, registry: Path, name: str, site: str) -> SAE:
    """A registered SAE, measured on held-out rows of the run's store."""
    return open_registered(registry, name, site, checked_rows(store, site), model_hash=run.model.content_hash)


def checked_rows(store: ActivationStore, site: str) -> Float[Tensor, "row d_in"]:
    """Held-out rows of a site, sinks left out, that SAEs which were not trained here are measured on."""
    return torch.from_numpy(store.read(site, evenly_spaced(held_out_rows(store), CHECKED_ROWS)))


def registered_directories(registry: Path, name: str, sites: Iterable[str]) -> dict[str, Path]:
    """Where the registered pairs of these sites lie.

    Raises:
        UserError: an unknown name, or a site without an entry.
    """
    found = find_registered(registry, name)
    missing = [site for site in sites if site not in found]
    if missing:
        raise UserError(f"{name} has no SAE for {', '.join(missing)}", expected=f"one of {', '.join(found)}")
    return {site: registry.parent / found[site].path for site in sites}


def _open(directory: Path, trust_remote_code: bool) -> Run:
    return Run.open(directory, trust_remote_code=trust_remote_code)
