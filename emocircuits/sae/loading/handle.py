"""Opens an SAE from sae-lens' pair and refuses what does not fit."""

import json
import struct
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from sae_lens.constants import SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME
from sae_lens.registry import SAE_CLASS_REGISTRY

from emocircuits.errors import UserError, unknown
from emocircuits.provenance import sha256_file

CONFIG_LIMIT, DIMENSION_LIMIT = 1 << 20, 1 << 24


def load_sae(
    directory: str | Path,
    *,
    site: str | None = None,
    d_in: int | None = None,
    model_hash: str | None = None,
    device: str = "cpu",
) -> SAE:
    """The inference SAE of a directory, float32, without gradients to its weights.

    Args:
        directory: holds `cfg.json` and `sae_weights.safetensors`.
        site: the site it must have been trained on.
        d_in: the width it must have (the model's d_model).
        model_hash: content hash of the model it must belong to; not compared where the SAE does not say.
        device: torch device.

    Raises:
        UserError: a file is missing, damaged or not what it should be, or the SAE belongs to another site,
            width or model.
    """
    directory = Path(directory)
    config = _config(directory)
    weights = directory / SAE_WEIGHTS_FILENAME
    metadata = config.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise UserError(f"{directory / SAE_CFG_FILENAME} has metadata that is no table")
    if d_in is not None and config["d_in"] != d_in:
        raise UserError(
            f"the SAE in {directory} has d_in {config['d_in']}", expected=f"the model's d_model {d_in}"
        )
    trained_on = metadata.get("hook_name")
    if site is not None and trained_on is not None and trained_on != site:
        raise UserError(f"the SAE in {directory} was trained on {trained_on}", expected=site)
    owner = metadata.get("model_hash")
    if model_hash is not None and owner is not None and owner != model_hash:
        raise UserError(
            f"the SAE in {directory} belongs to another model ('{metadata.get('model_name')}', {owner[:12]})",
            expected=f"one of the model {model_hash[:12]}",
            cure="train it again: emocircuits run --from sae",
        )
    _check_weights(weights, config, metadata.get("weights_sha256"))
    try:
        sae = SAE.load_from_disk(directory, device=device, dtype="float32")
    except Exception as error:  # whatever sae-lens meets in a foreign configuration is the file's fault
        raise UserError(
            f"sae-lens cannot load the SAE in {directory} ({type(error).__name__}: {error})",
            cure="check the pair or train it again",
        ) from error
    for name, value in sae.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise UserError(f"the SAE in {directory} holds NaN or infinity in {name}", cure="train it again")
    return sae.requires_grad_(False).eval()


def _config(directory: Path) -> dict[str, Any]:
    path = directory / SAE_CFG_FILENAME
    missing = [name for name in (SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME) if not (directory / name).is_file()]
    if missing:
        raise UserError(
            f"{directory} is no SAE: {' and '.join(missing)} missing", expected="sae-lens' pair of files"
        )
    if path.stat().st_size > CONFIG_LIMIT:
        raise UserError(
            f"{path} has {path.stat().st_size} bytes", expected=f"a configuration below {CONFIG_LIMIT}"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error})") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} holds no table", expected="sae-lens' SAE configuration")
    if config.get("architecture") not in SAE_CLASS_REGISTRY:
        raise unknown("SAE architecture", str(config.get("architecture")), SAE_CLASS_REGISTRY)
    for name in ("d_in", "d_sae"):
        value = config.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= DIMENSION_LIMIT:
            raise UserError(
                f"{path} has {name} = {value!r}", expected=f"a whole number from 1 to {DIMENSION_LIMIT}"
            )
    k = config.get("k", 1)
    whole = isinstance(k, int) and not isinstance(k, bool)
    if config["architecture"] == "topk" and not (whole and 0 < k <= config["d_sae"]):
        raise UserError(
            f"{path} has k = {k!r}", expected=f"a whole number from 1 to d_sae = {config['d_sae']}"
        )
    return config


def _check_weights(path: Path, config: dict[str, Any], expected_hash: Any) -> None:
    if expected_hash is not None and sha256_file(path) != expected_hash:
        raise UserError(
            f"{path} does not match its configuration: it was damaged or exchanged", cure="train it again"
        )
    shapes = _shapes(path)
    for name, shape in (("W_dec", [config["d_sae"], config["d_in"]]), ("b_dec", [config["d_in"]])):
        if shapes.get(name) != shape:
            raise UserError(
                f"{path} has {name} of shape {shapes.get(name)}",
                expected=f"{shape}, as its configuration says",
            )


def _shapes(path: Path) -> dict[str, Any]:
    """Shapes from the header of a safetensors file (8 bytes of length, then JSON)."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ValueError("header longer than the file")
            header = json.loads(file.read(length))
        return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is no safetensors file ({error})", cure="train it again") from error
