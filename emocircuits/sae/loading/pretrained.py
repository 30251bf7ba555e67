"""Pretrained SAEs by name: `RELEASE:ID` of a sae-lens release, or a directory in any of the known formats.

What is used in a run is sae-lens' pair again, with the site, the model and where it came from in its
metadata, any scale of its inputs folded into its weights. Nothing is believed: L0 and FVU are measured on the
run's own activations.
"""

import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from sae_lens import SAE
from torch import Tensor

from emocircuits.artifacts.feature_page import feature_page
from emocircuits.errors import UserError, unknown
from emocircuits.io.atomic import write_bytes
from emocircuits.names import layer_of
from emocircuits.progress import say
from emocircuits.sae.loading.formats import RawSAE, read_sae
from emocircuits.sae.loading.handle import load_sae
from emocircuits.sae.loading.registered import FVU_RATIO, FVU_SLACK, L0_RATIO
from emocircuits.sae.quality import encode_dense

FILES = ["*.json", "*.safetensors", "*.npz"]
WORTHLESS = 0.95  # of the variance unexplained: no better than the mean


@dataclass(frozen=True)
class PretrainedSource:
    """Where an SAE comes from.

    Attributes:
        name: as it was asked for.
        directory: where its files lie.
        l0, fvu: what its release says of it; 0 where it says nothing.
        neuronpedia: its id on Neuronpedia, e.g. `gemma-2-2b/12-gemmascope-res-16k`; "" where it has none.
        scale: what its release says its inputs are multiplied by; 0 where it says nothing.
    """

    name: str
    directory: Path
    l0: float = 0.0
    fvu: float = 0.0
    neuronpedia: str = ""
    scale: float = 0.0


def parse_pretrained(entries: Sequence[str], sites: Sequence[str]) -> dict[str, str]:
    """`SITE=SOURCE` texts as a mapping; a site may be given by its layer's number.

    Raises:
        UserError: no `=`, an unknown site, or a site given twice.
    """
    found: dict[str, str] = {}
    for entry in entries:
        site, equals, source = entry.partition("=")
        site = next((one for one in sites if site.strip() in (one, str(layer_of(one)))), site.strip())
        if not equals or not source.strip():
            raise UserError(
                f"sae_source.pretrained has '{entry}'", expected="SITE=RELEASE:ID or SITE=DIRECTORY"
            )
        if site not in sites:
            raise unknown("site in sae_source.pretrained", site, sites)
        if site in found:
            raise UserError(f"sae_source.pretrained gives {site} twice", expected="one SAE per site")
        found[site] = source.strip()
    return found


def find_pretrained(name: str) -> PretrainedSource:
    """The files a name means; those of a release come from the local cache or the Hugging Face hub.

    Raises:
        UserError: neither a directory nor a known release and id, or the hub cannot be reached.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return PretrainedSource(name, path)
    release, colon, sae_id = name.partition(":")
    if not colon:
        raise UserError(
            f"'{name}' is no directory", expected="a directory, or RELEASE:ID of a sae-lens release"
        )
    about = _release(release)
    if sae_id not in about.saes_map:
        raise unknown(f"SAE of {release}", sae_id, about.saes_map)
    folder = about.saes_map[sae_id]
    root = _fetch(
        name,
        about.repo_id,
        [f"{folder}/{pattern}" for pattern in FILES] + [f"{folder}/*/{pattern}" for pattern in FILES],
    )
    explained = about.expected_var_explained.get(sae_id, 1.0)
    return PretrainedSource(
        name,
        root / folder,
        float(about.expected_l0.get(sae_id, 0.0)),
        1.0 - explained if explained < 1 else 0.0,
        about.neuronpedia_id.get(sae_id) or "",
        float(about.norm_scaling_factor.get(sae_id, 0.0)),
    )


def sources_in(release: str, layers: Sequence[int]) -> dict[int, str]:
    """The SAEs of a release after some layers, `RELEASE:ID`: where it has several of one layer those with a
    page on Neuronpedia, the narrowest of them.

    Raises:
        UserError: no such release, no SAE after a layer, or several that are as good.
    """
    about, found = _release(release), {}
    for layer in layers:
        ids = [name for name in about.saes_map if _reads_after(name, layer)]
        rank = {name: (not about.neuronpedia_id.get(name), _width(name)) for name in ids}
        best = [name for name in ids if rank[name] == min(rank.values())]
        if len(best) != 1:
            raise UserError(
                f"{release} has {len(ids)} SAEs after layer {layer}",
                expected="one that stands out",
                cure=f"name it: load_saes({{{layer}: '{release}:ID'}}); its ids are "
                f"{', '.join(ids or about.saes_map)}",
            )
        found[layer] = f"{release}:{best[0]}"
    return found


def is_release(name: str) -> bool:
    """Whether sae-lens knows a release of this name."""
    return name in _releases()


def _release(name: str) -> Any:
    releases = _releases()
    if name not in releases:
        raise unknown("sae-lens release", name, releases)
    return releases[name]


def _releases() -> Any:
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    return get_pretrained_saes_directory()


def _reads_after(sae_id: str, layer: int) -> bool:
    number = re.search(r"(?:^|/)(?:layer_|blocks\.)(\d+)(?=[/_.]|$)", sae_id)
    return number is not None and int(number[1]) == layer and not re.search("resid_(pre|mid)", sae_id)


def _width(sae_id: str) -> float:
    width = re.search(r"width_(\d+)(k|m)", sae_id)
    return int(width[1]) * {"k": 1e3, "m": 1e6}[width[2]] if width else 0.0


def _fetch(name: str, repository: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    with suppress(OSError):  # not in the local cache: ask the hub below
        return Path(snapshot_download(repository, allow_patterns=patterns, local_files_only=True))
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        raise UserError(
            f"the SAE '{name}' is not in the local cache and HF_HUB_OFFLINE is set",
            cure="fetch it where there is a network, or give a directory",
        )
    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except Exception as error:  # every network library has its own errors
        raise UserError(
            f"cannot fetch the SAE '{name}' from {repository} ({type(error).__name__})",
            cure="check the network, or give a directory",
        ) from error


@dataclass(frozen=True)
class Owner:
    """The model that an SAE is used with.

    Attributes:
        name, content_hash: of the model.
        prepend_bos: whether its texts begin with BOS; None where that is not known.
    """

    name: str
    content_hash: str
    prepend_bos: bool | None = None


def adopt(
    source: PretrainedSource,
    target: Path,
    owner: Owner,
    *,
    site: str,
    d_in: int,
    activations: Float[Tensor, "row d_in"],
) -> SAE:
    """Turns a pretrained SAE into sae-lens' pair at `target` and opens it, once it was measured.

    Args:
        source: where it lies.
        target: directory of the pair.
        owner: the model of the run.
        site: the site it is used at.
        d_in: the model's width.
        activations: rows of the site, sinks left out.

    Raises:
        UserError: another site, width or kind of SAE, an unknown scale, or L0 or FVU far off.
    """
    _save(open_pretrained(source, owner, site=site, d_in=d_in, activations=activations), target)
    return load_sae(target, site=site, d_in=d_in)


def open_pretrained(
    source: PretrainedSource,
    owner: Owner | None = None,
    *,
    site: str,
    d_in: int | None = None,
    activations: Float[Tensor, "row d_in"] | None = None,
) -> SAE:
    """The SAE that lies somewhere, with the site, the model and where it came from in its metadata.

    Args:
        source: where it lies.
        owner: the model it is used with, where that is known.
        site: the site it is used at.
        d_in: the width it must have.
        activations: rows of the site, sinks left out, that it is measured on; None leaves it unmeasured.

    Raises:
        UserError: another site, width or kind of SAE, an unknown scale, or L0 or FVU far off.
    """
    form, raw = read_sae(source.directory)
    if raw.hook and raw.hook != site:
        raise UserError(
            f"the SAE {source.name} was trained on {raw.hook}",
            expected=site,
            cure="give it under its own site",
        )
    if d_in is not None and int(raw.config["d_in"]) != d_in:
        raise UserError(
            f"the SAE {source.name} has d_in {raw.config['d_in']}",
            expected=f"the model's d_model {d_in}",
            cure="it belongs to another model",
        )
    bos, own = raw.about.get("prepend_bos"), owner.prepend_bos if owner else None
    if bos is not None and own is not None and bool(bos) != own:
        say(
            f"{source.name} was trained on texts {'with' if bos else 'without'} BOS, these are the other kind"
        )
    sae = _build(source, raw, activations)
    metadata = {
        "model_name": raw.about.get("model_name") or (owner.name if owner else None),
        "model_hash": owner.content_hash if owner else None,
        "hook_name": site,
        "prepend_bos": bos,
        "context_size": raw.about.get("context_size"),
        "neuronpedia_id": source.neuronpedia or raw.about.get("neuronpedia_id"),
        "pretrained": source.name,
        "format": form,
    }
    sae.cfg.metadata = type(sae.cfg.metadata)(**metadata)
    if activations is not None:
        check_measured(sae, source, site, activations)
    return sae


def _build(source: PretrainedSource, raw: RawSAE, activations: Float[Tensor, "row d_in"] | None) -> SAE:
    config = {key: value for key, value in raw.config.items() if key != "metadata"}
    folded = config.get("normalize_activations") == "expected_average_only_in" or raw.scale != 1.0
    config |= {
        "normalize_activations": "none" if folded else config.get("normalize_activations", "none"),
        "device": "cpu",
        "dtype": "float32",
    }
    tensors = {name: value.float().contiguous() for name, value in raw.tensors.items()}
    try:
        sae = SAE.from_dict(config)
        sae.process_state_dict_for_loading(tensors)
        sae.load_state_dict(tensors)
    except Exception as error:  # whatever sae-lens meets in a foreign file is the file's fault
        raise UserError(
            f"sae-lens cannot take the SAE {source.name} ({type(error).__name__}: "
            f"{str(error).splitlines()[0]})",
            cure="check its files",
        ) from error
    if folded:
        sae.fold_activation_norm_scaling_factor(source.scale or raw.scale or _scale(source, activations))
    return sae.requires_grad_(False).eval()


def _scale(source: PretrainedSource, activations: Float[Tensor, "row d_in"] | None) -> float:
    """Where no file says it, the scale that the normalisation is defined by: mean norm -> sqrt(d_in)."""
    if activations is None:
        raise UserError(
            f"no file says how the SAE {source.name} scales its inputs", cure="give activations: store="
        )
    return float(activations.shape[1] ** 0.5 / activations.double().norm(dim=1).mean())


@torch.no_grad()
def check_measured(
    sae: SAE, source: PretrainedSource, site: str, activations: Float[Tensor, "row d_in"]
) -> dict[str, float]:
    """L0 and FVU on given rows, refused when they are far from what the release says, or worthless.

    Raises:
        UserError: too few rows, or far off; the message has the numbers and the usual causes.
    """
    if len(activations) < 2:
        raise UserError(f"{len(activations)} rows to measure {source.name} on", expected="a few thousand")
    lost, active, x = 0.0, 0, activations.double()
    for block in activations.split(4096):
        acts = encode_dense(sae, block)
        lost += float((block.double() - sae.decode(acts).double()).square().sum())
        active += int((acts != 0).sum())
    l0, fvu = active / len(x), lost / float((x - x.mean(0)).square().sum())
    far = source.l0 > 0 and not source.l0 / (2 * L0_RATIO) <= l0 <= source.l0 * 2 * L0_RATIO
    far = far or (source.fvu > 0 and fvu > FVU_RATIO * source.fvu + 2 * FVU_SLACK)
    if far or fvu > WORTHLESS or l0 == 0:
        said = [f"L0 {source.l0:.1f}" if source.l0 else "", f"FVU {source.fvu:.3f}" if source.fvu else ""]
        raise UserError(
            f"{source.name} at {site} has L0 {l0:.1f} and FVU {fvu:.3f} on this run's activations",
            expected=f"about {' and '.join(part for part in said if part)} as its release says"
            if any(said)
            else f"an FVU below {WORTHLESS}",
            cure="usual causes: (1) an SAE of another model, layer or revision, (2) a scale of its inputs "
            "that is folded twice or never, or another activation function, (3) texts with BOS where it was "
            "trained without or the other way, or of another kind",
        )
    return {"l0": l0, "fvu": fvu}


def neuronpedia_url(sae: Any, feature: int) -> str:
    """The page of a feature on Neuronpedia; "" where its SAE has no id there."""
    name = getattr(getattr(getattr(sae, "cfg", None), "metadata", None), "neuronpedia_id", None)
    return feature_page(name, feature)


def _save(sae: SAE, target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sae.save_model(folder)
        # weights, then cfg.json
        for path in sorted(Path(folder).iterdir(), key=lambda path: path.suffix != ".safetensors"):
            write_bytes(target / path.name, path.read_bytes())
