"""SAEs by name: those that were trained here, registered ones, sae-lens releases, files of other tools."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sae_lens import SAE

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.errors import UserError, unknown
from emocircuits.names import is_stream, layer_of, residual_site
from emocircuits.sae.loading.handle import load_sae
from emocircuits.sae.loading.pretrained import (
    Owner,
    find_pretrained,
    open_pretrained,
    sites_at,
)
from emocircuits.sae.loading.registered import (
    find_registered,
    open_registered,
    read_registry,
    shipped_registry,
)
from emocircuits.sae.loading.releases import is_release, sources_in
from emocircuits.sae.rows import checked_rows


def load_saes(
    source: str | Path | Mapping[int | str, str | Path],
    *,
    layers: Sequence[int | str] | None = None,
    store: ActivationStore | None = None,
) -> dict[str, SAE]:
    """SAEs of a model, one per site.

    Args:
        source: a directory that `train_saes` or a run filled (`<site>/cfg.json`); the name of SAEs in the
            registry that ships (`organism-topk`); a sae-lens release (`gemma-scope-2-1b-it-res`), of which
            each layer's SAE with a page on Neuronpedia is taken, the narrowest; a path at which SAEs lie in
            any known format; or layer or site -> `RELEASE:ID` or the path of an SAE.
        layers: numbers of layers, or their sites; all that there are by default. A release needs them.
        store: activations of the model. With them each SAE is measured, and refused where its L0 or
            reconstruction is far off; without them nothing is measured.

    Returns:
        site -> SAE, in the order of the layers.

    Raises:
        UserError: no such source, a layer that it has no SAE for, files that are missing or damaged, or an
            SAE that does not fit the activations.
    """
    wanted = None if layers is None else [_site(layer) for layer in layers]
    openers = _openers(source, wanted, store)
    missing = [site for site in wanted or () if site not in openers]
    if missing:
        raise UserError(
            f"{source} has no SAE for {missing[0]}", expected=f"one of {', '.join(sorted(openers))}"
        )
    sites = sorted(openers if wanted is None else wanted, key=layer_of)
    return {site: openers[site]() for site in sites}


def _openers(
    source: str | Path | Mapping[int | str, str | Path],
    wanted: list[str] | None,
    store: ActivationStore | None,
) -> dict[str, Callable[[], SAE]]:
    """site -> what opens its SAE."""
    if isinstance(source, Mapping):
        return {_site(layer): _pretrained(str(name), _site(layer), store) for layer, name in source.items()}
    path = Path(source).expanduser()
    if path.exists():
        folders = [one.parent for one in path.glob("*/cfg.json") if is_stream(one.parent.name)]
        if folders:
            return {folder.name: _trained(folder, store) for folder in folders}
        sites = sites_at(path) if wanted is None else wanted
        return {site: _pretrained(str(source), site, store) for site in sites}
    registry, name = shipped_registry(), str(source)
    known = {entry.name for entry in read_registry(registry)} if registry.is_file() else set()
    if name in known:
        return {site: _registered(name, site, store) for site in find_registered(registry, name)}
    if not is_release(name):
        raise UserError(
            f"there are no SAEs '{name}'",
            expected=f"a directory, a sae-lens release, or one of {', '.join(sorted(known))}",
        )
    if wanted is None:
        raise UserError(f"the release {name} without layers", expected="layers=[…], those that are needed")
    chosen = sources_in(name, [layer_of(site) for site in wanted])
    return {site: _pretrained(chosen[layer_of(site)], site, store) for site in wanted}


def _trained(folder: Path, store: ActivationStore | None) -> Callable[[], SAE]:
    owner = None if store is None else store.metadata.get("model_hash")
    width = None if store is None else store.d_model
    return lambda: load_sae(folder, site=folder.name, d_in=width, model_hash=owner)


def _registered(name: str, site: str, store: ActivationStore | None) -> Callable[[], SAE]:
    def opened() -> SAE:
        if store is None:
            return open_registered(shipped_registry(), name, site, None)
        if site not in store.sites:
            raise unknown("site", site, store.sites)
        owner = store.metadata.get("model_hash")
        return open_registered(shipped_registry(), name, site, checked_rows(store, site), model_hash=owner)

    return opened


def _pretrained(name: str, site: str, store: ActivationStore | None) -> Callable[[], SAE]:
    def opened() -> SAE:
        source = find_pretrained(name)
        if store is None:
            return open_pretrained(source, site=site)
        rows = checked_rows(store, site)
        return open_pretrained(source, _owner(store), site=site, d_in=store.d_model, activations=rows)

    return opened


def _owner(store: ActivationStore) -> Owner:
    return Owner(str(store.metadata.get("model_name", "")), str(store.metadata.get("model_hash", "")))


def _site(layer: int | str) -> str:
    return residual_site(layer) if isinstance(layer, int) else layer
