"""Models in one GGUF file: their weights are multiplied out once, into a directory of the cache that loads
like any other.

What the file says of the weights' precision is kept in the directory's `config.json`, under `emocircuits`:
rounding to a few bits is part of the model that is looked at.
"""

import json
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from emocircuits.errors import Failure, UserError
from emocircuits.io.cache import cache_directory
from emocircuits.models.known_files import known_of
from emocircuits.models.quiet import quiet_libraries
from emocircuits.progress import say
from emocircuits.provenance import sha256_file

SUFFIX = ".gguf"
CONVERSION = 2  # of the directories that are made: one more whenever what is written into them changes
DAMAGED = "the file is damaged or only half there: get it again"
PLAIN = {"F32", "F16", "BF16", "F64"}


def is_gguf(path: Path) -> bool:
    """Whether a path looks like such a file."""
    return path.suffix.lower() == SUFFIX


def gguf_directory(path: Path) -> Path:
    """The Hugging Face directory of a GGUF file, made where it is not in the cache.

    Args:
        path: the file.

    Raises:
        UserError: no such file, a file that is damaged, of an architecture or a quantisation that
            transformers cannot read, or split over several files.
        Failure: the disk is full.
    """
    if not path.is_file():
        raise UserError(f"the model file '{path}' does not exist")
    types = known_of(path, "tensor_types", _tensor_types)
    digest = known_of(path, "sha256", sha256_file)
    directory = cache_directory() / "gguf" / f"{digest[:32]}-{CONVERSION}"
    if (directory / "config.json").is_file():
        return directory
    say(f"{path.name}: its weights are multiplied out, once, into {directory}")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".part-") as folder:
            made = Path(folder) / "model"
            made.mkdir()
            _convert(path, made, {"gguf": path.name, "sha256": digest, "tensor_types": types})
            if not (directory / "config.json").is_file():  # another command may have been faster
                made.rename(directory)
    except OSError as error:
        raise Failure(
            f"cannot write {directory}: {error.strerror or error}",
            cure="free some space, or name another place by EMOCIRCUITS_CACHE",
        ) from error
    return directory


def _tensor_types(path: Path) -> dict[str, int]:
    """How many tensors have which type; the file is whole as far as its own table says."""
    from gguf import GGUFReader

    with open(path, "rb") as file:
        if file.read(4) != b"GGUF":
            raise UserError(f"{path} is no GGUF file", expected="a file that begins with 'GGUF'")
    try:
        tensors = GGUFReader(path).tensors
        counts = Counter(tensor.tensor_type.name for tensor in tensors)
        end = max(int(tensor.data_offset) + int(tensor.n_bytes) for tensor in tensors)
    except Exception as error:  # the reader raises what numpy and struct raise
        raise UserError(f"cannot read {path} ({_line(error)})", cure=DAMAGED) from error
    if end > path.stat().st_size:
        raise UserError(f"{path} has {path.stat().st_size} bytes", expected=f"{end} bytes", cure=DAMAGED)
    return dict(sorted(counts.items()))


def _convert(path: Path, directory: Path, about: dict[str, Any]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    given = {"gguf_file": path.name, "local_files_only": True}
    with quiet_libraries():
        try:
            tokenizer = AutoTokenizer.from_pretrained(path.parent, **given)
            read = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **given)
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise Failure(
                f"out of memory while reading {path}", cure="take a machine with more memory"
            ) from error
        except Exception as error:  # each architecture and quantisation has its own way to be unknown
            raise UserError(
                f"transformers cannot read {path} ({_line(error)})",
                expected=f"a quantisation and an architecture that it knows; this file has {_shown(about)}",
            ) from error
        # a model that was read from GGUF does not save itself
        config = read.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(read.state_dict())
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    _add_to(directory / "config.json", {"emocircuits": about})
    begins = _field(path, "tokenizer.ggml.add_bos_token")
    if isinstance(begins, bool):
        _add_to(directory / "tokenizer_config.json", {"add_bos_token": begins})


def _field(path: Path, name: str) -> Any:
    """A field of the file's head; None where it has none."""
    from gguf import GGUFReader

    found = GGUFReader(path).fields.get(name)
    return None if found is None else found.contents()


def _add_to(path: Path, more: dict[str, Any]) -> None:
    written = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**written, **more}, indent=2), encoding="utf-8")


def quantisation_of(directory: Path) -> str:
    """How the weights of a converted GGUF file were stored; "" for other directories."""
    with suppress(OSError, ValueError):
        about = json.loads((directory / "config.json").read_text(encoding="utf-8")).get("emocircuits")
        if isinstance(about, dict) and "tensor_types" in about:
            return _shown(about)
    return ""


def _shown(about: dict[str, Any]) -> str:
    return ", ".join(f"{count} tensors in {name}" for name, count in about["tensor_types"].items())


def _line(error: Exception) -> str:
    text = str(error).splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
