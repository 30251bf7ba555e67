"""SAEs on disk: sae-lens' pair in one directory per site, written whole or not at all."""

import json
import os
import shutil
from pathlib import Path

import torch
from sae_lens import TrainingSAE
from sae_lens.constants import SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME
from safetensors.torch import load_file, save_file

from emocircuits.errors import UserError
from emocircuits.io.atomic import write_failure
from emocircuits.io.documents import read_json
from emocircuits.provenance import sha256_file


def save_pair(sae: TrainingSAE, directory: str | Path, dtype: str = "float32") -> None:
    """Writes `cfg.json` and `sae_weights.safetensors` for inference; the configuration holds the hash of the
    weights.

    Args:
        sae: the SAE.
        directory: where it goes.
        dtype: of the numbers in the file; it is read back in float32 whatever this is.

    Raises:
        Failure: the disk is full or not writable.
    """
    directory = Path(directory)
    making, old = (
        directory.with_name(f".{directory.name}.making"),
        directory.with_name(f".{directory.name}.old"),
    )
    try:
        for left in (making, old):
            shutil.rmtree(left, ignore_errors=True)
        making.mkdir(parents=True)
        sae.save_inference_model(making)
        if dtype != "float32":
            path = making / SAE_WEIGHTS_FILENAME
            tensors = {name: value.to(getattr(torch, dtype)) for name, value in load_file(path).items()}
            save_file(tensors, path)
        config = json.loads((making / SAE_CFG_FILENAME).read_text())
        config["device"] = "cpu"
        config["metadata"]["weights_sha256"] = sha256_file(making / SAE_WEIGHTS_FILENAME)
        (making / SAE_CFG_FILENAME).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
        for name in (SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME):
            os.chmod(making / name, 0o644)
            with open(making / name, "rb") as file:
                os.fsync(file.fileno())
        if directory.exists():
            os.replace(directory, old)
        os.replace(making, directory)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)
        raise write_failure(directory, error) from error


def is_trained(directory: str | Path, key: str) -> bool:
    """Whether the directory holds a whole pair that was trained under this key (hash of settings, rows and
    site).
    """
    config, weights = Path(directory) / SAE_CFG_FILENAME, Path(directory) / SAE_WEIGHTS_FILENAME
    if not config.is_file() or not weights.is_file():
        return False
    try:
        metadata = read_json(config)["metadata"]
        return metadata.get("training_key") == key and metadata.get("weights_sha256") == sha256_file(weights)
    except (UserError, KeyError, TypeError, AttributeError):
        return False
