"""A directory that lacks something, or holds something unsafe, is refused with its name."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from emocircuits.errors import UserError
from emocircuits.models import load_model
from emocircuits.models.tiny import write_tiny_model


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_tiny_model("llama", tmp_path_factory.mktemp("good"))


@pytest.fixture
def copy(good, tmp_path):
    return shutil.copytree(good, tmp_path / "copy")


def refused(directory, **arguments) -> str:
    with pytest.raises(UserError) as caught:
        load_model(str(directory), **arguments)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_nan_weights_are_named(copy):
    tensors = load_file(copy / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = torch.nan
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    assert "model.layers.1.mlp.up_proj.weight" in refused(copy)


def test_infinite_weights_are_named(copy):
    tensors = load_file(copy / "model.safetensors")
    tensors["model.norm.weight"][0] = torch.inf
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    text = refused(copy)
    assert "model.norm.weight" in text and "infinity" in text


def test_missing_tensor_is_named(copy):
    tensors = load_file(copy / "model.safetensors")
    del tensors["model.layers.2.self_attn.q_proj.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    assert "model.layers.2.self_attn.q_proj.weight" in refused(copy)


def test_weights_of_another_size(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"intermediate_size": 96}))
    assert "config.json" in refused(copy)


def test_no_weights(copy):
    (copy / "model.safetensors").unlink()
    assert "has no weights" in refused(copy)


def test_pickled_weights_only(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    text = refused(copy)
    assert "pytorch_model.bin" in text and "safetensors" in text


def test_truncated_weights(copy):
    data = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(data[: len(data) // 2])
    assert "truncated" in refused(copy)


def test_missing_shard(copy):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00001-of-00002.safetensors" in refused(copy)


def test_no_config(copy):
    (copy / "config.json").unlink()
    assert "config.json" in refused(copy)


def test_broken_config(copy):
    (copy / "config.json").write_text("{")
    assert "not JSON" in refused(copy)


def test_no_tokenizer(copy):
    (copy / "tokenizer.json").unlink()
    assert "no tokenizer" in refused(copy)


def test_broken_tokenizer(copy):
    (copy / "tokenizer.json").write_text("{}")
    assert "tokenizer" in refused(copy)


def test_tokenizer_without_bos(copy):
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (copy / name).is_file():
            values = json.loads((copy / name).read_text())
            values.pop("bos_token", None)
            (copy / name).write_text(json.dumps(values))
    assert "BOS" in refused(copy)
