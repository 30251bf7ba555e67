"""Registered SAEs: `registry.toml` says which file a name means, whose activations it reads and how good it
was there.

A loaded SAE is measured, not trusted: a configuration that says something else than the weights need (another
activation function, a scale folded twice or never) loads without complaint and reconstructs badly.
"""

import json
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from sae_lens import SAE
from sae_lens import __version__ as sae_lens_version
from sae_lens.constants import SAE_WEIGHTS_FILENAME
from torch import Tensor

from emocircuits.errors import UserError, unknown
from emocircuits.io.atomic import write_text
from emocircuits.provenance import sha256_file
from emocircuits.sae.dictionary import open_dictionaries
from emocircuits.sae.loading.handle import load_sae

# How far L0 (as a ratio) and FVU may be off on other rows of the same model: the organism's SAEs differ by
# less than a third of this between kinds of text, while a forgotten scale, another layer or a wrong
# activation function is several times it.
L0_RATIO, FVU_RATIO, FVU_SLACK = 1.5, 2.0, 0.05
HEAD = (
    "# SAEs by name: whose activations they read, and how good they were there. Written by "
    "`emocircuits sae register`.\n"
)


@dataclass(frozen=True)
class Quality:
    """What was measured when an SAE was registered.

    Attributes:
        l0, fvu, ce_loss_recovered, dead_fraction: as in `saes.csv`.
        tokens: rows they were measured on.
        data: what rows, in words.
        data_hash: content hash of the store they are in.
    """

    l0: float
    fvu: float
    ce_loss_recovered: float
    dead_fraction: float
    tokens: int
    data: str
    data_hash: str


@dataclass(frozen=True)
class RegisteredSAE:
    """One entry.

    Attributes:
        name: shared by the SAEs of all sites that belong together.
        site: hook name.
        path: directory of the pair, relative to the registry.
        weights_sha256: hash of the weights.
        model, model_hash, revision: whose activations it reads ("" where a model has no revision).
        recipe: the recipe it was trained with.
        sae_lens: version of sae-lens that wrote it.
        quality: what was measured.
    """

    name: str
    site: str
    path: str
    weights_sha256: str
    model: str
    model_hash: str
    revision: str
    recipe: str
    sae_lens: str
    quality: Quality


def shipped_registry() -> Path:
    """The registry that comes with the package: beside it in a checkout, inside it when installed."""
    package = Path(__file__).parents[2]
    return next(
        (
            path
            for path in (package / "_saes" / "registry.toml", package.parent / "saes" / "registry.toml")
            if path.is_file()
        ),
        package / "_saes" / "registry.toml",
    )


def registered_for(path: str | Path, model_hash: str, sites: Sequence[str]) -> str:
    """The first name in a registry that has an SAE of this model for every site; "" where there is none."""
    entries = (
        [entry for entry in read_registry(path) if entry.model_hash == model_hash]
        if Path(path).is_file()
        else []
    )
    names = dict.fromkeys(entry.name for entry in entries)
    return next(
        (name for name in names if set(sites) <= {entry.site for entry in entries if entry.name == name}), ""
    )


def read_registry(path: str | Path) -> tuple[RegisteredSAE, ...]:
    """All entries of a registry.

    Raises:
        UserError: no such file, not TOML, an entry with missing or unknown keys, or two entries of one name
            and site.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"there is no registry {path}",
            expected="a registry.toml",
            cure="emocircuits sae register RUN --name NAME --saes DIR",
        )
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("sae", [])
        entries = tuple(
            RegisteredSAE(**{**table, "quality": Quality(**table["quality"])}) for table in tables
        )
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path} is no registry of SAEs ({error})",
            expected="[[sae]] tables as `sae register` writes them",
        ) from error
    keys = [(entry.name, entry.site) for entry in entries]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice:
        raise UserError(f"{path} has two entries for {twice[0]} at {twice[1]}", expected="one")
    return entries


def find_registered(path: str | Path, name: str) -> dict[str, RegisteredSAE]:
    """The entries of one name by site.

    Raises:
        UserError: nothing of that name; the message lists the known ones.
    """
    entries = read_registry(path)
    found = {entry.site: entry for entry in entries if entry.name == name}
    if not found:
        raise unknown("registered SAE", name, {entry.name for entry in entries})
    return found


def register(path: str | Path, entries: Sequence[RegisteredSAE]) -> None:
    """Adds entries to a registry (made when missing); an entry of the same name and site is replaced."""
    old = read_registry(path) if Path(path).is_file() else ()
    new = {(entry.name, entry.site): entry for entry in (*old, *entries)}
    write_text(path, HEAD + "".join(_toml(entry) for entry in new.values()))


def entry_of(sae: SAE, directory: Path, registry: Path, **about: Any) -> RegisteredSAE:
    """The entry of an SAE that lies in `directory`.

    Raises:
        UserError: the directory is not below the registry's.
    """
    try:
        relative = directory.resolve().relative_to(registry.resolve().parent)
    except ValueError:
        raise UserError(
            f"{directory} is not below {registry.parent}",
            expected="SAEs that lie beside their registry",
            cure=f"copy them to {registry.parent} first",
        ) from None
    return RegisteredSAE(
        site=str(sae.cfg.metadata.hook_name),
        path=relative.as_posix(),
        weights_sha256=sha256_file(directory / SAE_WEIGHTS_FILENAME),
        sae_lens=str(sae_lens_version),
        **about,
    )


def open_registered(
    registry: str | Path,
    name: str,
    site: str,
    activations: Float[Tensor, "row d_in"] | None,
    *,
    model_hash: str | None = None,
    device: str = "cpu",
) -> SAE:
    """The registered SAE of a site, measured on given activations.

    Args:
        registry: the registry's file.
        name: name of the entry.
        site: hook name.
        activations: rows of that site (sinks left out), at least a few thousand tokens of ordinary text;
            None leaves it unmeasured.
        model_hash: content hash of the model the rows come from; not compared where it is None.
        device: torch device.

    Raises:
        UserError: an unknown name or site, files that are missing or have another hash, another model or
            width, or L0 or FVU far from what was recorded.
    """
    found = find_registered(registry, name)
    if site not in found:
        raise unknown(f"site of {name}", site, found)
    entry = found[site]
    directory = Path(registry).parent / entry.path
    if model_hash is not None and entry.model_hash != model_hash:
        raise UserError(
            f"{name} was trained on the model '{entry.model}' ({entry.model_hash[:12]})",
            expected=f"an SAE of the model {model_hash[:12]}",
        )
    weights = directory / SAE_WEIGHTS_FILENAME
    if weights.is_file() and sha256_file(weights) != entry.weights_sha256:
        raise UserError(
            f"{weights} is not the file that was registered as {name}",
            expected=f"SHA-256 {entry.weights_sha256[:12]}…",
            cure="restore it, or register it under another name",
        )
    width = None if activations is None else activations.shape[1]
    sae = load_sae(directory, site=site, d_in=width, model_hash=model_hash, device=device)
    if activations is not None:
        check_quality(sae, activations, entry)
    return sae


@torch.no_grad()
def check_quality(sae: SAE, activations: Float[Tensor, "row d_in"], entry: RegisteredSAE) -> None:
    """Compares L0 and FVU on given rows with the recorded ones.

    Raises:
        UserError: no rows, or one of the two is far off; the message has the numbers and the three usual
            causes.
    """
    if len(activations) < 2:
        raise UserError(f"{len(activations)} rows to measure {entry.name} on", expected="a few thousand")
    dictionary, active, lost = open_dictionaries({entry.site: sae})[entry.site], 0, 0.0
    for block in activations.split(2048):
        acts = dictionary.active(block)
        active += len(acts.values)
        lost += float((block - dictionary.decode_active(acts).cpu()).double().square().sum())
    x = activations.double()
    l0, fvu = active / len(x), lost / float((x - x.mean(0)).square().sum())
    recorded = entry.quality
    if (
        not (recorded.l0 / L0_RATIO <= l0 <= recorded.l0 * L0_RATIO)
        or not fvu <= FVU_RATIO * recorded.fvu + FVU_SLACK
    ):
        raise UserError(
            f"{entry.name} at {entry.site} has L0 {l0:.1f} and FVU {fvu:.3f} on the given activations",
            expected=f"about L0 {recorded.l0:.1f} and FVU {recorded.fvu:.3f} as recorded on {recorded.data}",
            cure="usual causes: (1) activations of another site, model or revision, (2) a scale or decoder "
            "norm that is folded twice or never, or another activation function, (3) sink or BOS rows among "
            "them, or text of another kind",
        )


def _toml(entry: RegisteredSAE) -> str:
    table = asdict(entry)
    quality = table.pop("quality")
    lines = [f"{name} = {json.dumps(value)}" for name, value in table.items()]
    return "\n".join(
        ["", "[[sae]]", *lines, "[sae.quality]", *(f"{k} = {json.dumps(v)}" for k, v in quality.items()), ""]
    )
