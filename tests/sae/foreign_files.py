"""SAEs with random or given weights, in the files of the projects that publish some, and what each computes
by its own definition.

Weights are plain: `encoder` [d_in, d_sae], `decoder` [d_sae, d_in], and the biases as each project's formula
has them.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

D_IN, D_SAE, SCALE = 16, 64, 3.0


@dataclass(frozen=True)
class Weights:
    """Weights of an SAE, and its thresholds where it has some."""

    encoder: Tensor
    bias: Tensor
    decoder: Tensor
    b_dec: Tensor
    threshold: Tensor
    k: int = 4

    @classmethod
    def random(cls, seed: int = 0, d_in: int = D_IN, d_sae: int = D_SAE, k: int = 4) -> "Weights":
        source = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=source) / shape[0] ** 0.5

        return cls(draw(d_in, d_sae), draw(d_sae), draw(d_sae, d_in), draw(d_in), draw(d_sae).abs(), k)

    def jumprelu(self, x: Tensor, minus: bool = False, threshold: Tensor | None = None) -> Tensor:
        """x̂ where what lies above the threshold counts; `minus` subtracts b_dec before the encoder."""
        hidden = (x - self.b_dec * minus) @ self.encoder + self.bias
        fires = hidden > (self.threshold if threshold is None else threshold)
        return (hidden.relu() * fires) @ self.decoder + self.b_dec

    def relu(self, x: Tensor, minus: bool = False) -> Tensor:
        """x̂ of a ReLU SAE."""
        return self.jumprelu(x, minus, torch.zeros(1))

    def topk(self, x: Tensor, minus: bool = False) -> Tensor:
        """x̂ of the k largest."""
        hidden = (x - self.b_dec * minus) @ self.encoder + self.bias
        values, places = hidden.topk(self.k)
        return torch.zeros_like(hidden).scatter(-1, places, values.relu()) @ self.decoder + self.b_dec


def linear(w: Weights) -> dict[str, Tensor]:
    """Weights as two torch.nn.Linear have them, decoder without bias."""
    return {
        "encoder.weight": w.encoder.T.contiguous(),
        "encoder.bias": w.bias,
        "decoder.weight": w.decoder.T.contiguous(),
    }


def write_sae_lens(folder: Path, w: Weights, hook: str) -> Callable[[Tensor], Tensor]:
    """A ReLU SAE of sae-lens before its version 6."""
    settings = {
        "architecture": "standard",
        "d_in": w.encoder.shape[0],
        "d_sae": w.encoder.shape[1],
        "hook_name": hook,
    }
    (folder / "cfg.json").write_text(json.dumps(settings | {"dtype": "float32", "model_name": "tiny"}))
    tensors = {"W_enc": w.encoder, "b_enc": w.bias, "W_dec": w.decoder, "b_dec": w.b_dec}
    save_file(tensors, folder / "sae_weights.safetensors")
    return lambda x: w.relu(x, minus=True)


def write_gemma_scope(folder: Path, w: Weights, hook: str) -> Callable[[Tensor], Tensor]:
    """JumpReLU, in numpy's form; the names of folders say the place."""
    np.savez(
        folder / "params.npz",
        W_enc=w.encoder,
        b_enc=w.bias,
        W_dec=w.decoder,
        b_dec=w.b_dec,
        threshold=w.threshold,
    )
    return w.jumprelu


def write_gemma_scope_2(folder: Path, w: Weights, hook: str) -> Callable[[Tensor], Tensor]:
    """JumpReLU, in safetensors."""
    point = hook.replace("blocks.", "model.layers.").replace("hook_resid_post", "output")
    settings = {"architecture": "jump_relu", "model_name": "gemma-v3-1b-it", "hf_hook_point_in": point}
    (folder / "config.json").write_text(json.dumps(settings))
    tensors = {"w_enc": w.encoder, "b_enc": w.bias, "w_dec": w.decoder, "b_dec": w.b_dec}
    save_file({**tensors, "threshold": w.threshold}, folder / "params.safetensors")
    return w.jumprelu


def write_llama_scope(
    folder: Path, w: Weights, hook: str, scale: float = SCALE
) -> Callable[[Tensor], Tensor]:
    """JumpReLU of inputs times a scale, with one threshold, which is in units of the unscaled inputs."""
    d_in, d_sae = w.encoder.shape
    settings = {
        "d_model": d_in,
        "d_sae": d_sae,
        "jump_relu_threshold": float(w.threshold[0]) / scale,
        "hook_point_in": hook,
        "dataset_average_activation_norm": {"in": d_in**0.5 / scale},
    }
    (folder / "hyperparams.json").write_text(json.dumps(settings))
    (folder / "checkpoints").mkdir(exist_ok=True)
    save_file({**linear(w), "decoder.bias": w.b_dec}, folder / "checkpoints" / "final.safetensors")
    return lambda x: w.jumprelu(x * scale, threshold=w.threshold[:1]) / scale


def write_llama_scope_r1(
    folder: Path, w: Weights, hook: str, scale: float = SCALE
) -> Callable[[Tensor], Tensor]:
    """JumpReLU of inputs times a scale, one threshold per feature."""
    d_in, d_sae = w.encoder.shape
    settings = {"d_model": d_in, "expansion_factor": d_sae // d_in, "hook_point_in": hook}
    norm = {"dataset_average_activation_norm": {"in": d_in**0.5 / scale}}
    (folder / "config.json").write_text(json.dumps(settings | norm))
    tensors = {**linear(w), "decoder.bias": w.b_dec, "log_jumprelu_threshold": w.threshold.log()}
    save_file(tensors, folder / "sae_weights.safetensors")
    return lambda x: w.jumprelu(x * scale) / scale


def write_dictionary(
    folder: Path, w: Weights, hook: str, *, kind: str = "BatchTopKSAE", file: str = "ae.pt", **trainer: object
) -> Callable[[Tensor], Tensor]:
    """The SAEs of dictionary_learning."""
    d_in, d_sae = w.encoder.shape
    about = {"dict_class": kind, "activation_dim": d_in, "dict_size": d_sae, "lm_name": "tiny", "k": w.k}
    place = {"layer": int(hook.split(".")[1]), "submodule_name": f"resid_post_layer_{hook.split('.')[1]}"}
    settings = {"trainer": about | place | trainer, "buffer": {"ctx_len": 128}}
    (folder / "config.json").write_text(json.dumps(settings))
    tensors = linear(w)
    result: Callable[[Tensor], Tensor]
    if kind == "AutoEncoder":
        tensors, result = {**tensors, "bias": w.b_dec}, lambda x: w.relu(x, minus=True)
    elif kind == "AutoEncoderNew":
        tensors, result = {**tensors, "decoder.bias": w.b_dec}, w.relu
    elif kind == "AutoEncoderTopK":
        tensors = {**tensors, "b_dec": w.b_dec, "k": torch.tensor(w.k), "threshold": torch.tensor(-1.0)}
        result = lambda x: w.topk(x, minus=True)  # noqa: E731
    elif kind == "JumpReluAutoEncoder":
        tensors = {"W_enc": w.encoder, "b_enc": w.bias, "W_dec": w.decoder, "b_dec": w.b_dec}
        tensors, result = {**tensors, "threshold": w.threshold}, w.jumprelu
    elif kind == "GatedAutoEncoder":
        del tensors["encoder.bias"]
        more = {"decoder_bias": w.b_dec, "mag_bias": w.bias, "gate_bias": -w.threshold, "r_mag": w.threshold}
        tensors = {**tensors, **more}

        def result(x: Tensor) -> Tensor:
            hidden = (x - w.b_dec) @ w.encoder
            size = (hidden * w.threshold.exp() + w.bias).relu()
            return (size * (hidden - w.threshold > 0)) @ w.decoder + w.b_dec
    else:
        tensors = {**tensors, "b_dec": w.b_dec, "k": torch.tensor(w.k), "threshold": w.threshold[0]}
        result = lambda x: w.jumprelu(x, minus=True, threshold=w.threshold[:1])  # noqa: E731
    if file.endswith(".pt"):
        torch.save(tensors, folder / file)
    else:
        save_file(tensors, folder / file)
    return result


def write_sparsify(folder: Path, w: Weights, hook: str) -> Callable[[Tensor], Tensor]:
    """TopK whose folder says the layer."""
    d_in, d_sae = w.encoder.shape
    settings = {"d_in": d_in, "expansion_factor": d_sae // d_in, "num_latents": d_sae, "k": w.k}
    (folder / "cfg.json").write_text(json.dumps(settings))
    save_file({**linear(w), "W_dec": w.decoder, "b_dec": w.b_dec}, folder / "sae.safetensors")
    return lambda x: w.topk(x, minus=True)


def write_qwen_scope(file: Path, w: Weights, hook: str) -> Callable[[Tensor], Tensor]:
    """TopK in one file per layer."""
    tensors = {"W_enc": w.encoder.T, "W_dec": w.decoder.T, "b_enc": w.bias, "b_dec": w.b_dec}
    torch.save({name: value.contiguous() for name, value in tensors.items()}, file)
    return w.topk


def write_goodfire(file: Path, w: Weights, hook: str) -> Callable[[Tensor], Tensor]:
    """ReLU, as two linear maps."""
    names = {"encoder": "encoder_linear", "decoder": "decoder_linear"}
    tensors = {**linear(w), "decoder.bias": w.b_dec}
    torch.save({f"{names[name[:7]]}{name[7:]}": value for name, value in tensors.items()}, file)
    return w.relu


def write_deepseek_r1(file: Path, w: Weights, hook: str) -> Callable[[Tensor], Tensor]:
    """ReLU, as two linear maps of other names."""
    torch.save({**linear(w), "decoder.bias": w.b_dec}, file)
    return w.relu


# sae-lens' loader -> what writes its files, whether they lie in a folder of their own
WRITERS = {
    "sae_lens": (write_sae_lens, True),
    "gemma_2": (write_gemma_scope, True),
    "gemma_3": (write_gemma_scope_2, True),
    "llama_scope": (write_llama_scope, True),
    "llama_scope_r1_distill": (write_llama_scope_r1, True),
    "dictionary_learning_1": (write_dictionary, True),
    "sparsify": (write_sparsify, True),
    "qwen_scope": (write_qwen_scope, False),
    "goodfire": (write_goodfire, False),
    "deepseek_r1": (write_deepseek_r1, False),
}


def write_temporal(folder: Path) -> None:
    """Settings of an SAE that reads texts as a whole, and a file in place of its weights."""
    sae = {
        "exp_factor": 4,
        "n_heads": 2,
        "n_attn_layers": 1,
        "bottleneck_factor": 1,
        "sae_diff_type": "topk",
        "kval_topk": 4,
        "tied_weights": True,
        "scaling_factor": 1.0,
    }
    settings = {"llm": {"dimin": D_IN}, "sae": sae, "data": {"dtype": "float32"}}
    (folder / "conf.yaml").write_text(yaml.safe_dump(settings))
    save_file({"D": torch.zeros(D_SAE, D_IN), "b": torch.zeros(D_IN)}, folder / "latest_ckpt.safetensors")


def write_transcoder(folder: Path, layer: int) -> Path:
    """Settings of a transcoder, and a file in place of its weights."""
    wandb = {"d_model": {"value": D_IN}, "d_feature": {"value": D_SAE}, "batch_size": {"value": 4}}
    (folder / "wandb-config.yaml").write_text(yaml.safe_dump(wandb))
    (folder / "config.yaml").write_text(yaml.safe_dump({"model_name": "tiny"}))
    save_file({"W_enc": torch.zeros(1)}, folder / f"layer_{layer}.safetensors")
    return folder / f"layer_{layer}.safetensors"
