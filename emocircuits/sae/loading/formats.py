"""Directories and files in which other projects keep SAEs, each with the loader of sae-lens that reads it.

| format | files | loader of sae-lens |
| --- | --- | --- |
| sae_lens | `cfg.json`, `sae_weights.safetensors` | sae_lens |
| gemma_scope | `params.npz` | gemma_2, gemma_2_transcoder |
| gemma_scope_2 | `params.safetensors`, `config.json` | gemma_3 |
| llama_scope | `hyperparams.json`, `checkpoints/final.safetensors` | llama_scope |
| llama_scope_r1 | `config.json`, `sae_weights.safetensors` | llama_scope_r1_distill |
| dictionary_learning | `config.json`, `ae.pt` or `ae.safetensors` | dictionary_learning_1 |
| sparsify | `cfg.json`, `sae.safetensors` | sparsify |
| temporal | `conf.yaml`, `latest_ckpt.safetensors` | temporal |
| qwen_scope | `layer<N>.sae.pt` | qwen_scope |
| goodfire | `Llama-3…-SAE-l<N>.pt` or `.pth` | goodfire |
| deepseek_r1 | `DeepSeek-R1-…-SAE-l<N>.pt` | deepseek_r1 |
| hook_z | `<name>.pt`, `<name>_cfg.json` | connor_rob_hook_z |
| transcoder | `layer_<N>.safetensors`, `wandb-config.yaml` | mwhanna_transcoder |
| clt | `W_enc_<N>.safetensors`, `config.yaml` | mntss_clt_layer_transcoder |

What a loader reads out of the names of the hub's repository is read out of the names of folders here.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub.errors import EntryNotFoundError

from emocircuits.errors import UserError
from emocircuits.registry import Registry
from emocircuits.sae.loading.handle import CONFIG_LIMIT
from emocircuits.sae.loading.loaders import Request

DEPTH = 4  # folders below the one that was given: the deepest releases have release/part/layer/width/l0
# what Gemma Scope 2 calls the places -> the folders that its loader knows them by
POINTS = {
    "output": "resid_post",
    "self_attn.o_proj.input": "attn_out",
    "post_feedforward_layernorm.output": "mlp_out",
    "pre_feedforward_layernorm.output": "transcoder",
}
UNKNOWN = {"hook_name": "", "model_name": ""}  # where no name says it


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: its name.
        summary: one line on where it comes from.
        fits: whether an SAE in this format lies at a path: a directory, or a file of weights.
        request: what sae-lens is asked for.
    """

    name: str
    summary: str
    fits: Callable[[Path], bool]
    request: Callable[[Path], Request]


FORMATS: Registry[Format] = Registry("SAE format")


def format_at(path: Path) -> Format | None:
    """The format of the SAE at a path, None where there is none."""
    return next((form for form in FORMATS if form.fits(path)), None)


def saes_at(path: Path) -> tuple[Path, ...]:
    """The SAEs at a path: itself, or those in the folders below it.

    Raises:
        UserError: nothing there, or nothing in a known format.
    """
    if not path.exists():
        raise UserError(
            f"there is no SAE {path}", expected="a directory, or RELEASE:ID of a sae-lens release"
        )
    found = _below(path, DEPTH)
    if not found and path.is_file():  # one of the files of an SAE that is a directory
        found = _below(path.parent, 0)
    if not found:
        raise UserError(f"{path} holds no SAE", expected=f"one of the formats {', '.join(FORMATS.names())}")
    return tuple(found)


def _below(path: Path, depth: int) -> list[Path]:
    if format_at(path) is not None:
        return [path]
    if not path.is_dir():
        return []
    inside = sorted(one for one in path.iterdir() if not one.name.startswith("."))
    return [sae for one in inside if depth or one.is_file() for sae in _below(one, depth - 1)]


def _from(directory: Path, folder: str, name: str) -> Path:
    """A file of a directory that the hub would have in `folder` of a repository."""
    path = directory / name.removeprefix(f"{folder}/")
    if path.name == "ae.pt" and path.with_suffix(".safetensors").is_file():
        return path.with_suffix(".safetensors")  # the same tensors; sae-lens knows the other file only
    if not path.is_file():
        raise EntryNotFoundError(f"{path} is missing")
    return path


def _folder(path: Path, loader: str, repository: str = "", folder: str = "", **overrides: Any) -> Request:
    folder = folder or path.name
    return Request(loader, repository, folder, partial(_from, path, folder), overrides)


def _file(path: Path, loader: str, repository: str = "", folder: str = "") -> Request:
    return Request(loader, repository, folder or path.name, partial(_from, path.parent, ""))


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file() or path.stat().st_size > CONFIG_LIMIT:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _gemma_scope(path: Path) -> Request:
    names = path.absolute().as_posix()
    repository = re.search(r"gemma-scope-(2b|9b|27b)-(pt|it)-(res|mlp|att|transcoders)(?=/|$)", names)
    folder = re.search(r"(layer_\d+|embedding)/width_[^/]+(/[^/]+)?$", names)
    if repository is None or folder is None:
        return _folder(path, "gemma_2", "2b-res", f"layer_0/{path.name}", **UNKNOWN)
    loader = "gemma_2_transcoder" if repository[3] == "transcoders" else "gemma_2"
    return _folder(path, loader, f"google/{repository[0]}", folder[0])


def _gemma_scope_2(path: Path) -> Request:
    names = path.absolute().as_posix()
    model = re.search(r"gemma-scope-2-\w+-(pt|it)(?=/|$)", names)
    repository = f"google/{model[0]}" if model else ""
    folder = re.search(r"(resid_post|attn_out|mlp_out|transcoder|clt)[^/]*/layer_\d+[^/]*$", names)
    if folder is not None:
        return _folder(path, "gemma_3", repository, folder[0])
    point = re.search(r"layers\.(\d+)\.(.+)$", str(_settings(path / "config.json").get("hf_hook_point_in")))
    if point is None or point[2] not in POINTS:
        return _folder(path, "gemma_3", repository, "resid_post/layer_0", **UNKNOWN)
    return _folder(path, "gemma_3", repository, f"{POINTS[point[2]]}/layer_{point[1]}")


def _qwen_scope(path: Path) -> Request:
    named = re.search(r"SAE-Res-[^/]+-W\d+K-L0_\d+(?=/)", path.absolute().as_posix())
    if named is None:
        raise UserError(
            f"no folder above {path} is named as a release of Qwen-Scope, which says the model and k",
            expected="a folder such as SAE-Res-Qwen3-1.7B-Base-W32K-L0_50",
            cure="name it so",
        )
    return _file(path, "qwen_scope", f"Qwen/{named[0]}")


def _has(*names: str) -> Callable[[Path], bool]:
    return lambda path: all((path / name).is_file() for name in names)


def _named(pattern: str, beside: str = "") -> Callable[[Path], bool]:
    return lambda path: (
        path.is_file()
        and re.fullmatch(pattern, path.name) is not None
        and (not beside or (path.parent / beside).is_file())
    )


def _is_dictionary(path: Path) -> bool:
    return any((path / name).is_file() for name in ("ae.pt", "ae.safetensors")) and "trainer" in _settings(
        path / "config.json"
    )


for _form in (
    Format(
        "sae_lens",
        "sae-lens' own pair of files",
        _has("cfg.json", "sae_weights.safetensors"),
        lambda path: _folder(path, "sae_lens"),
    ),
    Format("gemma_scope", "Gemma Scope: one npz file", _has("params.npz"), _gemma_scope),
    Format(
        "gemma_scope_2", "Gemma Scope 2: one safetensors file", _has("params.safetensors"), _gemma_scope_2
    ),
    Format(
        "llama_scope",
        "Llama Scope: hyperparameters and a final checkpoint",
        _has("hyperparams.json", "checkpoints/final.safetensors"),
        lambda path: _folder(path, "llama_scope"),
    ),
    Format(
        "llama_scope_r1",
        "Llama Scope for DeepSeek-R1-Distill",
        _has("config.json", "sae_weights.safetensors"),
        lambda path: _folder(path, "llama_scope_r1_distill"),
    ),
    Format(
        "dictionary_learning",
        "dictionary_learning and models of its form",
        _is_dictionary,
        lambda path: _folder(path, "dictionary_learning_1"),
    ),
    Format(
        "sparsify",
        "EleutherAI's sparsify",
        _has("cfg.json", "sae.safetensors"),
        lambda path: _folder(path, "sparsify"),
    ),
    Format(
        "temporal",
        "SAEs that read a text as a whole",
        _has("conf.yaml", "latest_ckpt.safetensors"),
        lambda path: _folder(path, "temporal", folder=f"{path.parent.name}/{path.name}"),
    ),
    Format("qwen_scope", "Qwen-Scope: one file per layer", _named(r"layer\d+\.sae\.pt"), _qwen_scope),
    Format(
        "goodfire",
        "Goodfire's SAEs of Llama 3",
        _named(r"Llama-3\.\d-\d+B-Instruct-SAE-l\d+\.pth?"),
        lambda path: _file(path, "goodfire", f"Goodfire/{path.stem}"),
    ),
    Format(
        "deepseek_r1",
        "the SAE of DeepSeek-R1-Distill-Llama",
        _named(r"DeepSeek-R1-.*-SAE-l\d+\.pt"),
        lambda path: _file(path, "deepseek_r1"),
    ),
    Format(
        "hook_z",
        "attention SAEs of GPT-2",
        lambda path: path.suffix == ".pt" and path.with_name(f"{path.stem}_cfg.json").is_file(),
        lambda path: _file(path, "connor_rob_hook_z"),
    ),
    Format(
        "transcoder",
        "transcoders of Qwen 3, one file per layer",
        _named(r"layer_\d+\.safetensors", "wandb-config.yaml"),
        lambda path: _file(path, "mwhanna_transcoder"),
    ),
    Format(
        "clt",
        "one layer of a cross-layer transcoder",
        _named(r"W_enc_\d+\.safetensors", "config.yaml"),
        lambda path: _file(path, "mntss_clt_layer_transcoder", folder=path.stem.rpartition("_")[2]),
    ),
):
    FORMATS.add(_form)
