"""SAEs that a run takes instead of training them: pretrained ones, those of a directory, registered ones.

Each is measured on the run's activations before it is used.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from sae_lens import SAE

from emocircuits.errors import UserError
from emocircuits.io.atomic import write_bytes
from emocircuits.runs.run import Run
from emocircuits.runs.sections import SAESourceSettings
from emocircuits.sae.loading.handle import load_sae
from emocircuits.sae.loading.pretrained import Owner, adopt, find_pretrained, parse_pretrained
from emocircuits.sae.loading.registered import (
    find_registered,
    open_registered,
    read_registry,
    registered_for,
    shipped_registry,
)
from emocircuits.sae.rows import checked_rows
from emocircuits.sae.settings import SAESettings
from emocircuits.settings import about, known

PAIR = ("cfg.json", "sae_weights.safetensors")


def check_sources(how: SAESourceSettings, sites: Sequence[str]) -> None:
    """Refuses given SAEs that are not there, before anything is computed.

    Raises:
        UserError: names the key.
    """
    pretrained = parse_pretrained(how.pretrained, tuple(sites))
    left = [site for site in sites if site not in pretrained]
    if how.directory and how.registered not in ("", "auto"):
        raise UserError(
            "the recipe has both sae_source.directory and sae_source.registered", expected="one of them"
        )
    if how.directory:
        with about("sae_source.directory"):
            _directories(how, left)
    if how.registry or how.registered not in ("", "auto"):
        with about("sae_source.registry"):
            names = {entry.name for entry in read_registry(registry_of(how))}
        if how.registered not in ("", "auto"):
            known("sae_source.registered", how.registered, names)


def registry_of(how: SAESourceSettings) -> Path:
    """The registry's file."""
    return Path(how.registry) if how.registry else shipped_registry()


def registered_name(run: Run) -> str:
    """The name of the registered SAEs to use; "" where SAEs are trained or come from a directory."""
    how = run.recipe.sae_source
    if how.registered != "auto":
        return how.registered
    usual = run.recipe.sae.shaping == SAESettings().shaping
    if not usual or how.directory:
        return ""
    return registered_for(registry_of(how), run.model.content_hash, run.store.sites)


def sites_to_train(run: Run) -> list[str]:
    """The sites whose SAEs the recipe does not give."""
    how = run.recipe.sae_source
    pretrained = parse_pretrained(how.pretrained, run.store.sites)
    given = how.directory or registered_name(run)
    return [] if given else [site for site in run.store.sites if site not in pretrained]


def take_given(run: Run) -> None:
    """Copies the SAEs that the recipe gives into the run, once each was opened and fits.

    Raises:
        UserError: an SAE that is not there or does not fit the model and its activations.
    """
    how, store, model = run.recipe.sae_source, run.store, run.model
    pretrained, name = parse_pretrained(how.pretrained, store.sites), registered_name(run)
    for site, source in pretrained.items():
        adopt(
            find_pretrained(source),
            run.path("saes") / site,
            Owner(model.name, model.content_hash, model.bos_id is not None),
            site=site,
            d_in=model.d_model,
            activations=checked_rows(store, site),
        )
    left = [site for site in store.sites if site not in pretrained]
    if name:
        directories = registered_directories(registry_of(how), name, left)
    else:
        directories = _directories(how, left) if how.directory else {}
    for site, directory in directories.items():
        if name:
            open_verified(run, registry_of(how), name, site)
        else:
            load_sae(directory, site=site, d_in=model.d_model)
        for file in PAIR:
            write_bytes(run.path("saes") / site / file, (directory / file).read_bytes())


def open_verified(run: Run, registry: Path, name: str, site: str) -> SAE:
    """A registered SAE, measured on held-out rows of the run's activations."""
    rows = checked_rows(run.store, site)
    return open_registered(registry, name, site, rows, model_hash=run.model.content_hash)


def registered_directories(registry: Path, name: str, sites: Iterable[str]) -> dict[str, Path]:
    """Where the registered pairs of these sites lie.

    Raises:
        UserError: an unknown name, or a site without an entry.
    """
    entries = find_registered(registry, name)
    missing = [site for site in sites if site not in entries]
    if missing:
        raise UserError(
            f"{name} has no SAE for {', '.join(missing)}", expected=f"one of {', '.join(entries)}"
        )
    return {site: registry.parent / entries[site].path for site in sites}


def _directories(how: SAESourceSettings, sites: Iterable[str]) -> dict[str, Path]:
    directories = {site: Path(how.directory) / site for site in sites}
    for site, directory in directories.items():
        if not directory.is_dir():
            raise UserError(
                f"there is no SAE for {site} in {directory}", expected=f"{directory}/cfg.json and weights"
            )
    return directories
