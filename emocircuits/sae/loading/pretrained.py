"""Pretrained SAEs by name: `RELEASE:ID` of a sae-lens release, or the path of one in any known format.

What is used in a run is sae-lens' pair again, with the site, the model and where it came from in its
metadata, any scale of its inputs folded into its weights. Nothing is believed: an SAE that says that it reads
another place is refused, and L0 and FVU are measured on the run's own activations.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import EntryNotFoundError
from jaxtyping import Float
from sae_lens import SAE
from torch import Tensor

from emocircuits.artifacts.feature_page import feature_page
from emocircuits.errors import UserError, unknown
from emocircuits.io.atomic import write_bytes
from emocircuits.names import layer_of
from emocircuits.progress import say
from emocircuits.sae.loading.formats import format_at, saes_at
from emocircuits.sae.loading.handle import load_sae
from emocircuits.sae.loading.loaders import RawSAE, Request, read, read_place
from emocircuits.sae.loading.places import check_place, place_of
from emocircuits.sae.loading.registered import FVU_RATIO, FVU_SLACK, L0_RATIO
from emocircuits.sae.loading.releases import SHOWN, WHOLE_TEXTS, Published, saes_of
from emocircuits.sae.quality import encode_dense

WORTHLESS = 0.95  # of the variance unexplained: no better than the mean


@dataclass(frozen=True)
class PretrainedSource:
    """Where an SAE comes from.

    Attributes:
        name: as it was asked for.
        path: where its files lie; None for an SAE of a release.
        l0, fvu: what its release says of it; 0 where it says nothing.
        neuronpedia: its id on Neuronpedia, e.g. `gemma-2-2b/12-gemmascope-res-16k`; "" where it has none.
        scale: what its release says its inputs are multiplied by; 0 where it says nothing.
        published: the SAE of a release; None for files that lie here.
    """

    name: str
    path: Path | None = None
    l0: float = 0.0
    fvu: float = 0.0
    neuronpedia: str = ""
    scale: float = 0.0
    published: Published | None = None


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
    """What a name means; the files of a release are looked for when it is opened.

    Raises:
        UserError: neither a path nor a known release and id.
    """
    path = Path(name).expanduser()
    if path.exists():
        return PretrainedSource(name, path)
    release, colon, sae_id = name.partition(":")
    if not colon:
        raise UserError(
            f"'{name}' is no directory", expected="a directory, or RELEASE:ID of a sae-lens release"
        )
    saes = saes_of(release)
    if sae_id not in saes:
        raise unknown(f"SAE of {release}", sae_id, saes)
    sae = saes[sae_id]
    return PretrainedSource(name, None, sae.l0, sae.fvu, sae.neuronpedia, sae.scale, sae)


def sites_at(path: Path) -> tuple[str, ...]:
    """The sites that the SAEs at a path say they read.

    Raises:
        UserError: no SAE, one that does not say, or none of the residual stream.
    """
    places = {sae: _place_of_files(sae) for sae in saes_at(path)}
    silent = next((sae for sae, place in places.items() if not place), None)
    if silent is not None:
        raise UserError(
            f"the SAE {silent} does not say which layer it reads",
            cure="name it: layers=[…], or {layer: path}",
        )
    sites = tuple(dict.fromkeys(place for place in places.values() if place.endswith("hook_resid_post")))
    if not sites:
        raise UserError(
            f"the SAEs in {path} were trained on {', '.join(sorted(set(places.values()))[:SHOWN])}",
            expected="the residual stream after a block",
        )
    return sites


def _place_of_files(path: Path) -> str:
    form = format_at(path)
    assert form is not None
    with _reading(str(path), form.name):
        return read_place(form.request(path))


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
    form, request = _request(source, site)
    # what it reads is known from names or settings, before weights are fetched
    with _reading(source.name, form):
        check_place(source.name, read_place(request), site)
        raw = read(request)
    if raw.config["architecture"] == "temporal":
        raise UserError(
            f"the SAE {source.name} {WHOLE_TEXTS}", expected="an SAE that reads one token at a time"
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


def _request(source: PretrainedSource, site: str) -> tuple[str, Request]:
    """The name of the format, and what sae-lens is asked for."""
    if source.published is not None:
        check_place(source.name, source.published.place, site)
        if source.published.obstacle:
            raise UserError(
                f"the SAE {source.name} {source.published.obstacle}",
                expected="an SAE that reads one token at a time",
            )
        return source.published.loader, source.published.request
    assert source.path is not None
    there = saes_at(source.path)
    if len(there) > 1:
        places = {path: _place_of_files(path) for path in there}
        fit = [path for path in there if places[path] == place_of(site)]
        if len(fit) != 1:
            named = ", ".join(os.path.relpath(path, source.path) for path in (fit or there)[:SHOWN])
            raise UserError(
                f"{source.name} has {len(fit)} SAEs of {site}", expected="one", cure=f"name one of {named}"
            )
        there = tuple(fit)
    form = format_at(there[0])
    assert form is not None
    return form.name, form.request(there[0])


@contextmanager
def _reading(name: str, form: str) -> Iterator[None]:
    """Whatever sae-lens meets in foreign files is the files' fault, and one line."""
    try:
        yield
    except UserError:
        raise
    except EntryNotFoundError as error:
        raise UserError(
            f"the SAE {name} lacks a file ({error})",
            cure="get its files again; those of a release where there is a network",
        ) from error
    except Exception as error:
        raise UserError(
            f"the SAE {name} is not as the format {form} has it ({type(error).__name__}: {_first(error)})",
            cure="get its files again",
        ) from error


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _build(source: PretrainedSource, raw: RawSAE, activations: Float[Tensor, "row d_in"] | None) -> SAE:
    config = {key: value for key, value in raw.config.items() if key != "metadata"}
    folded = config.get("normalize_activations") == "expected_average_only_in"
    config["normalize_activations"] = "none" if folded else config.get("normalize_activations") or "none"
    tensors = {name: value.float().contiguous() for name, value in raw.tensors.items()}
    for name, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise UserError(
                f"the SAE {source.name} holds NaN or infinity in {name}", cure="get its files again"
            )
    try:
        # made without memory: the weights that were read become its own
        sae = SAE.from_dict(config | {"device": "meta", "dtype": "float32"})
        sae.cfg.device = "cpu"
        sae.process_state_dict_for_loading(tensors)
        sae.load_state_dict(tensors, assign=True)
    except Exception as error:  # whatever sae-lens meets in a foreign file is the file's fault
        raise UserError(
            f"sae-lens cannot take the SAE {source.name} ({type(error).__name__}: {_first(error)})",
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
