"""Directories in which other projects keep SAEs, read as what sae-lens makes of them: a configuration and
tensors.

| format | files | recognised by |
| --- | --- | --- |
| sae_lens | `cfg.json`, `sae_weights.safetensors` | both |
| gemma_scope | `params.npz` | the file |
| llama_scope | `hyperparams.json`, `checkpoints/final.safetensors` | `hyperparams.json` |
| dictionary_learning | `config.json`, `ae.safetensors` | `trainer` in the configuration |
| sparsify | `cfg.json`, `sae.safetensors` | `num_latents` or `expansion_factor` in the configuration |

Pickles (`.pt`, `.bin`, …) are never opened: reading one can run code.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from emocircuits.errors import UserError
from emocircuits.registry import Registry
from emocircuits.sae.loading.handle import CONFIG_LIMIT

DECODER_BIASES = ("b_dec", "bias", "decoder_bias", "decoder.bias")
# words in the names that projects have for a part of a block -> TransformerLens' hook there
PARTS = {
    "resid_pre": "resid_pre",
    "resid_mid": "resid_mid",
    "resid": "resid_post",
    "mlp": "mlp_out",
    "attn": "attn_out",
    "attention": "attn_out",
    "self_attn": "attn_out",
}
PICKLES = ("*.pt", "*.pth", "*.bin", "*.pkl", "*.ckpt")


@dataclass(frozen=True)
class RawSAE:
    """An SAE as sae-lens wants it.

    Attributes:
        config: `architecture`, `d_in`, `d_sae` and what belongs to the architecture.
        tensors: weights under sae-lens' names.
        hook: the site it says it was trained at, "" where it does not say.
        about: `model_name`, `prepend_bos`, `context_size`, `neuronpedia_id` where known.
        scale: factor that inputs were multiplied by in training, still to be folded into the weights; 1 where
            there is none, 0 where there is one and the files do not say which.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    hook: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    scale: float = 1.0


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: its name.
        summary: one line on where it comes from.
        fits: whether a directory has it.
        read: what is in the directory.
    """

    name: str
    summary: str
    fits: Callable[[Path], bool]
    read: Callable[[Path], RawSAE]


FORMATS: Registry[Format] = Registry("SAE format")


def read_sae(directory: Path) -> tuple[str, RawSAE]:
    """The format of a directory, and what is in it.

    Raises:
        UserError: no such directory, no known format, only a pickle, or files that are damaged or incomplete.
    """
    if not directory.is_dir():
        raise UserError(
            f"there is no SAE directory {directory}",
            expected="a directory, or RELEASE:ID of a sae-lens release",
        )
    for form in FORMATS:
        if form.fits(directory):
            try:
                return form.name, form.read(directory)
            except (KeyError, ValueError, TypeError, OSError, SafetensorError) as error:
                raise UserError(
                    f"the SAE in {directory} is not as the format {form.name} has it "
                    f"({type(error).__name__}: {error})",
                    cure="get its files again",
                ) from error
    pickled = sorted(path.name for pattern in PICKLES for path in directory.glob(pattern))
    if pickled:
        raise UserError(
            f"{directory} has its weights only as {pickled[0]}, a pickle that can run code when it is read",
            expected="safetensors or npz",
            cure="where you trust it, save its tensors with safetensors.torch.save_file as ae.safetensors",
        )
    raise UserError(f"{directory} holds no SAE", expected=f"one of the formats {', '.join(FORMATS.names())}")


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file() or path.stat().st_size > CONFIG_LIMIT:
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def _read_sae_lens(directory: Path) -> RawSAE:
    from sae_lens.loading.pretrained_sae_loaders import handle_config_defaulting

    config = handle_config_defaulting(_json(directory / "cfg.json") | {"device": "cpu"})
    metadata = dict(config.get("metadata") or {})
    about = {
        key: metadata[key]
        for key in ("model_name", "prepend_bos", "context_size", "neuronpedia_id")
        if key in metadata
    }
    scale = 0.0 if config.get("normalize_activations") == "expected_average_only_in" else 1.0
    return RawSAE(
        config,
        load_file(directory / "sae_weights.safetensors"),
        str(metadata.get("hook_name") or ""),
        about,
        scale,
    )


def _read_gemma_scope(directory: Path) -> RawSAE:
    with np.load(directory / "params.npz", allow_pickle=False) as data:
        tensors = {
            ("W_" + name[2:] if name.lower().startswith("w_") else name): torch.from_numpy(
                np.asarray(data[name], dtype=np.float32)
            )
            for name in data
        }
    d_in, d_sae = tensors["W_enc"].shape
    tensors = {name: tensors[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")}
    return RawSAE(
        {"architecture": "jumprelu", "d_in": d_in, "d_sae": d_sae, "apply_b_dec_to_input": False},
        tensors,
        about={"prepend_bos": True, "context_size": 1024},
    )


def _read_llama_scope(directory: Path) -> RawSAE:
    about = _json(directory / "hyperparams.json")
    loaded = load_file(directory / "checkpoints" / "final.safetensors")
    d_in, d_sae = int(about["d_model"]), int(about["d_sae"])
    scale = d_in**0.5 / float(about["dataset_average_activation_norm"]["in"])
    threshold = torch.full((d_sae,), float(about["jump_relu_threshold"]) * scale)
    tensors = {
        "W_enc": loaded["encoder.weight"].T,
        "W_dec": loaded["decoder.weight"].T,
        "b_enc": loaded["encoder.bias"],
        "b_dec": loaded["decoder.bias"],
        "threshold": threshold,
    }
    return RawSAE(
        {"architecture": "jumprelu", "d_in": d_in, "d_sae": d_sae, "apply_b_dec_to_input": False},
        tensors,
        str(about.get("hook_point_in", "")),
        {"prepend_bos": True, "context_size": 1024},
        scale,
    )


def _read_dictionary_learning(directory: Path) -> RawSAE:
    config = _json(directory / "config.json")
    trainer, loaded = config["trainer"], load_file(directory / "ae.safetensors")
    kind, d_in, d_sae = trainer["dict_class"], int(trainer["activation_dim"]), int(trainer["dict_size"])
    architectures = {
        "AutoEncoder": "standard",
        "AutoEncoderNew": "standard",
        "AutoEncoderTopK": "topk",
        "GatedAutoEncoder": "gated",
        "JumpReluAutoEncoder": "jumprelu",
        "BatchTopKSAE": "jumprelu",
        "MatryoshkaBatchTopKSAE": "jumprelu",
    }
    if kind not in architectures:
        raise ValueError(f"dict_class {kind}, known are {', '.join(architectures)}")
    tensors = {
        "W_enc": loaded["W_enc"] if "W_enc" in loaded else loaded["encoder.weight"].T,
        "W_dec": loaded["W_dec"] if "W_dec" in loaded else loaded["decoder.weight"].T,
        "b_dec": next(loaded[name] for name in DECODER_BIASES if name in loaded),
    }
    for ours, theirs in (
        ("b_enc", "encoder.bias"),
        ("b_enc", "b_enc"),
        ("b_mag", "mag_bias"),
        ("b_gate", "gate_bias"),
        ("r_mag", "r_mag"),
    ):
        if theirs in loaded:
            tensors[ours] = loaded[theirs]
    if architectures[kind] == "jumprelu":
        tensors["threshold"] = loaded["threshold"].expand(d_sae)
    made = {
        "architecture": architectures[kind],
        "d_in": d_in,
        "d_sae": d_sae,
        "apply_b_dec_to_input": kind not in ("JumpReluAutoEncoder", "AutoEncoderNew"),
    } | ({"k": int(trainer["k"])} if kind == "AutoEncoderTopK" else {})
    if kind == "AutoEncoderTopK":
        made["rescale_acts_by_decoder_norm"] = False
    return RawSAE(
        made,
        tensors,
        _place(trainer.get("layer"), str(trainer.get("submodule_name") or "")),
        {
            "model_name": str(trainer.get("lm_name", "")),
            "prepend_bos": True,
            "context_size": int(config.get("buffer", {}).get("ctx_len", 0)) or None,
        },
    )


def _read_sparsify(directory: Path) -> RawSAE:
    config, loaded = _json(directory / "cfg.json"), load_file(directory / "sae.safetensors")
    d_in = int(config["d_in"])
    d_sae = int(config.get("num_latents") or d_in * config["expansion_factor"])
    if config.get("signed") or config.get("transcode") or config.get("skip_connection"):
        raise ValueError("signed activations and transcoders are not SAEs of the residual stream")
    zeros = {"b_enc": torch.zeros(d_sae), "b_dec": torch.zeros(d_in)}
    tensors = {
        "W_enc": loaded["W_enc"] if "W_enc" in loaded else loaded["encoder.weight"].T,
        "W_dec": loaded["W_dec"] if "W_dec" in loaded else loaded["decoder.weight"].T,
        "b_enc": loaded.get("b_enc", loaded.get("encoder.bias", zeros["b_enc"])),
        "b_dec": loaded.get("b_dec", loaded.get("decoder.bias", zeros["b_dec"])),
    }
    named = re.search(r"(?:^|[._])layers[._](\d+)(?:[._](.*))?$", directory.name)
    hook = "" if named is None else _place(int(named[1]), named[2] or "")
    # the encoder reads x - b_dec unless the decoder was normalised, as sae-lens' own loader has it
    made = {
        "architecture": "topk",
        "d_in": d_in,
        "d_sae": d_sae,
        "k": int(config["k"]),
        "rescale_acts_by_decoder_norm": False,
        "apply_b_dec_to_input": not config.get("normalize_decoder", False),
    }
    tensors = {
        name: _oriented(value, (d_in, d_sae) if name == "W_enc" else (d_sae, d_in))
        if value.ndim == 2
        else value
        for name, value in tensors.items()
    }  # both orientations of both are found in the wild
    return RawSAE(made, tensors, hook, {"prepend_bos": True})


def _place(layer: Any, part: str) -> str:
    """The hook that an SAE was trained at, by the number of a block and the name that its project has for a
    part of it; "" where there is no number.
    """
    if layer is None:
        return ""
    kinds = [kind for word, kind in PARTS.items() if re.search(rf"(?:^|[._]){word}", part)]
    if part and not kinds:
        return f"'{part}' of block {int(layer)}"
    return f"blocks.{int(layer)}.hook_{kinds[0] if kinds else 'resid_post'}"


def _oriented(value: Tensor, shape: tuple[int, int]) -> Tensor:
    return value if tuple(value.shape) == shape else value.T


FORMATS.add(
    Format(
        "sae_lens",
        "sae-lens' own pair of files",
        lambda d: (d / "sae_weights.safetensors").is_file() and (d / "cfg.json").is_file(),
        _read_sae_lens,
    )
)
FORMATS.add(
    Format(
        "gemma_scope", "Gemma Scope: one npz file", lambda d: (d / "params.npz").is_file(), _read_gemma_scope
    )
)
FORMATS.add(
    Format(
        "llama_scope",
        "Llama Scope: hyperparameters and a final checkpoint",
        lambda d: (d / "hyperparams.json").is_file() and (d / "checkpoints").is_dir(),
        _read_llama_scope,
    )
)
FORMATS.add(
    Format(
        "dictionary_learning",
        "dictionary_learning and models of its form",
        lambda d: (d / "ae.safetensors").is_file() and "trainer" in _json(d / "config.json"),
        _read_dictionary_learning,
    )
)
FORMATS.add(
    Format(
        "sparsify",
        "EleutherAI's sparsify",
        lambda d: (
            (d / "sae.safetensors").is_file()
            and bool({"num_latents", "expansion_factor"} & set(_json(d / "cfg.json")))
        ),
        _read_sparsify,
    )
)
