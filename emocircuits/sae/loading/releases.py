"""Published SAEs: the releases in sae-lens' directory, where each of their SAEs reads, and their files.

A release names its SAEs by ids. What an id reads is told without any file, from the names that sae-lens'
loader reads sizes and layers out of, or else from the id and the path in the repository, so that an SAE of
another place is refused before it is fetched.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from huggingface_hub.errors import EntryNotFoundError

from emocircuits.errors import UserError, unknown
from emocircuits.names import residual_site
from emocircuits.sae.loading.loaders import Request, named_places
from emocircuits.sae.loading.places import place_in_name

UNUSED = (
    "sparsity.safetensors"  # how often features fired in training: sae-lens fetches it, nothing here reads it
)
USUAL_L0 = 100.0  # of the SAEs of Gemma Scope that one is to look at first
WIDTHS = {"": 1.0, "k": 1e3, "m": 1e6}
SHOWN = 12
WHOLE_TEXTS = "reads a text as a whole"


@dataclass(frozen=True)
class Published:
    """One SAE of a release.

    Attributes:
        release, sae_id: its name is `release:sae_id`.
        repository, folder: where its files lie on the Hugging Face hub.
        model: the model that it was trained on, as its release says.
        loader: sae-lens' loader for it.
        place: what it reads, as its names say; "" where they do not say.
        l0, fvu: what its release says of it; 0 where it says nothing.
        neuronpedia: its id on Neuronpedia; "" where it has none.
        scale: what its release says its inputs are multiplied by; 0 where it says nothing.
    """

    release: str
    sae_id: str
    repository: str
    folder: str
    model: str
    loader: str
    place: str
    l0: float
    fvu: float
    neuronpedia: str
    scale: float

    @property
    def name(self) -> str:
        """What it is asked for by."""
        return f"{self.release}:{self.sae_id}"

    @property
    def obstacle(self) -> str:
        """Why it cannot be opened where it reads; "" where it can."""
        return WHOLE_TEXTS if self.loader == "temporal" else ""

    @property
    def width(self) -> float:
        """Number of features as its id says; 0 where it does not."""
        width = re.search(r"(?:width_|hook_resid_(?:pre|post)_)(\d+)([km]?)(?=[/_]|$)", self.sae_id)
        return int(width[1]) * WIDTHS[width[2]] if width else 0.0

    @property
    def request(self) -> Request:
        """What is asked of sae-lens for it; files come from the local cache or the hub."""
        from sae_lens.loading.pretrained_saes_directory import get_config_overrides

        overrides = get_config_overrides(self.release, self.sae_id)
        return Request(self.loader, self.repository, self.folder, partial(find_on_hub, self), overrides)


def releases() -> tuple[str, ...]:
    """The names of all releases."""
    return tuple(_directory())


def is_release(name: str) -> bool:
    """Whether sae-lens knows a release of this name."""
    return name in _directory()


@cache
def saes_of(release: str) -> dict[str, Published]:
    """id -> SAE of a release, without any file.

    Raises:
        UserError: no such release.
    """
    from sae_lens.loading.pretrained_sae_loaders import get_conversion_loader_name

    directory = _directory()
    if release not in directory:
        raise unknown("sae-lens release", release, directory)
    about, loader = directory[release], get_conversion_loader_name(release)
    named = named_places(loader, about.repo_id, about.saes_map.values())
    return {
        sae_id: Published(
            release,
            sae_id,
            about.repo_id,
            folder,
            about.model,
            loader,
            named.get(folder) or _place(loader, folder, sae_id),
            float(about.expected_l0.get(sae_id) or 0.0),
            max(0.0, 1.0 - float(about.expected_var_explained.get(sae_id, 1.0))),
            about.neuronpedia_id.get(sae_id) or "",
            float(about.norm_scaling_factor.get(sae_id, 0.0)),
        )
        for sae_id, folder in about.saes_map.items()
    }


def sources_in(release: str, layers: Sequence[int]) -> dict[int, str]:
    """The SAEs of a release after some layers, `RELEASE:ID`. Where it has several of one layer: those with a
    page on Neuronpedia, of these those that were trained to the end, the narrowest of them, and of these the
    one whose L0 is nearest to 100 where the release says it: so Gemma Scope chose the one to look at first.

    Raises:
        UserError: no such release, no SAE after a layer, or several that are as good.
    """
    found = {}
    for layer in layers:
        there = [sae for sae in saes_of(release).values() if sae.place == residual_site(layer)]
        best = best_of(there)
        if len(best) != 1:
            ids = [sae.sae_id for sae in best or saes_of(release).values()]
            shown = ", ".join(ids[:SHOWN]) + (f", … ({len(ids)} in all)" if len(ids) > SHOWN else "")
            which = "as good are" if best else "its ids are"
            raise UserError(
                f"{release} has {len(there)} SAEs after layer {layer}",
                expected="one that stands out",
                cure=f"name it: load_saes({{{layer}: '{release}:ID'}}); {which} {shown}",
            )
        found[layer] = best[0].name
    return found


def best_of(saes: Sequence[Published]) -> list[Published]:
    """Those of the SAEs of one place that stand out."""
    rank = {
        sae: (
            not sae.neuronpedia,
            "_step_" in sae.sae_id,
            sae.width,
            abs(sae.l0 - USUAL_L0) if sae.l0 else 0.0,
        )
        for sae in saes
    }
    return [sae for sae in saes if rank[sae] == min(rank.values())]


def find_on_hub(sae: Published, name: str) -> Path:
    """A file of a release, from the local cache or else from the hub.

    Raises:
        EntryNotFoundError: the repository has no such file, or it is not in the cache and the hub may not be
            asked.
        UserError: the hub cannot be reached.
    """
    import huggingface_hub

    cached = huggingface_hub.try_to_load_from_cache(sae.repository, name)
    if isinstance(cached, str):
        return Path(cached)
    if cached is not None or name.endswith(UNUSED):  # known to be missing, or not needed
        raise EntryNotFoundError(f"{sae.repository} has no {name}")
    if huggingface_hub.is_offline_mode():
        raise EntryNotFoundError(f"{name} is not in the local cache and HF_HUB_OFFLINE is set")
    try:
        return Path(huggingface_hub.hf_hub_download(sae.repository, name))
    except EntryNotFoundError:
        raise
    except Exception as error:  # every network library has its own errors
        raise UserError(
            f"cannot fetch {name} of the SAE '{sae.name}' from {sae.repository} ({type(error).__name__})",
            cure="check the network, or give a directory",
        ) from error


def _place(loader: str, folder: str, sae_id: str) -> str:
    if "transcoder" in loader:
        return f"{sae_id} (a transcoder)"
    return place_in_name(sae_id) or place_in_name(folder)


def _directory() -> Any:
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    return get_pretrained_saes_directory()
