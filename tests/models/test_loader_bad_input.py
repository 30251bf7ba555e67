"""What is wrong with a model is said in one line, before anything is computed."""

import json
import shutil

import pytest
import torch
from conftest import real_model
from safetensors.torch import load_file, save_file

from emocircuits.errors import Failure, UserError
from emocircuits.models import checks, load_model
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


def test_custom_code_needs_permission(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(
        json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "evil.Model"}})
    )
    assert "--trust-remote-code" in refused(copy)


def test_unknown_family_lists_the_known(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "gpt_22"}))
    text = refused(copy)
    assert "gpt2" in text and "qwen3" in text


@pytest.mark.parametrize("name", ["organsm", "no/such-model", "./nowhere", "a/b/c", "what is this"])
def test_unknown_names(name):
    assert name in refused(name)


def test_near_name_is_suggested():
    assert "did you mean 'organism'" in refused("organsm")


def test_a_file_is_no_model(copy):
    assert "directory" in refused(copy / "config.json")


def test_unknown_dtype(copy):
    assert "bfloat16" in refused(copy, dtype="float16")


def test_unknown_device(copy):
    assert "device" in refused(copy, device="warp")


def test_several_tokens_show_the_pieces(good):
    with pytest.raises(UserError, match="not one token") as caught:
        load_model(str(good), checks=False).single_token("blackmail")
    assert " | " in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value"), [("num_local_experts", 8), ("quantization_config", {"bits": 4}), ("clip_qkv", 8.0)]
)
def test_settings_that_would_be_ignored_are_refused(copy, setting, value):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {setting: value}))
    text = refused(copy)
    assert setting in text and "does not know" in text


def test_settings_that_nothing_was_tested_with_are_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"is_encoder_decoder": True}))
    assert "is_encoder_decoder = True" in refused(copy)


def test_settings_without_effect_are_no_obstacle(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(
        json.dumps(config | {"pretraining_tp": 2, "unsloth_version": "1", "some_flag": False})
    )
    assert load_model(str(copy)).card.name == "llama"


def test_memory_that_does_not_suffice_says_what_to_do(copy, monkeypatch):
    from emocircuits.models import loader

    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loader.AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(Failure, match="out of memory.*bfloat16.*--device-map auto"):
        load_model(str(copy))


def test_layers_can_be_spread_over_devices(good):
    one, spread = load_model(str(good)), load_model(str(good), device_map="auto")
    tokens = torch.arange(3, 12)[None]
    assert torch.equal(one.bridge(tokens), spread.bridge(tokens.to(spread.bridge.cfg.device)).cpu())


def test_hub_errors_have_cures(monkeypatch):
    import huggingface_hub
    from httpx import Request, Response
    from huggingface_hub import errors

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    answer = Response(404, request=Request("GET", "https://huggingface.co"))
    for raised, says in (
        (errors.GatedRepoError("x", response=answer), "is gated.*accept its licence"),
        (errors.RevisionNotFoundError("x", response=answer), "has no revision 'v9'"),
        (errors.RepositoryNotFoundError("x", response=answer), "the hub does not know it"),
        (ConnectionError("no route"), "the hub cannot be reached"),
    ):

        def download(*, local_files_only=False, raised=raised, **options):
            raise FileNotFoundError("not in the cache") if local_files_only else raised

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        with pytest.raises(UserError, match=says):
            load_model("some/model", revision="v9")


def test_a_failing_check_names_itself(good, monkeypatch):
    monkeypatch.setattr(
        checks, "_single_bos", lambda model: checks.Check("single BOS", False, 2.0, "two of them")
    )
    with pytest.raises(Failure, match="single BOS"):
        load_model(str(good))


def test_a_hook_that_holds_the_wrong_tensor_fails_the_load(good, monkeypatch):
    """If `hook_attn_out` held something else, the residual identity would break."""
    caught = checks._residual_identity

    def swapped(model, seen):
        return caught(model, seen | {"blocks.1.hook_attn_out": seen["blocks.1.hook_mlp_out"]})

    monkeypatch.setattr(checks, "_residual_identity", swapped)
    with pytest.raises(Failure, match="residual identity"):
        load_model(str(good))


def test_loading_is_silent(good, capfd):
    load_model(str(good))
    out = capfd.readouterr()
    assert out.out == "" and out.err == ""


@pytest.mark.real_model
@pytest.mark.parametrize("name, layers", [("stories260K", 5), ("tinystories-sp2M", 6)])
def test_real_models(name, layers, capfd):
    path = real_model(name)
    if name == "tinystories-sp2M":
        with pytest.raises(UserError, match="--trust-remote-code"):
            load_model(str(path))
    model = load_model(str(path), trust_remote_code=name == "tinystories-sp2M")
    assert (model.n_layers, model.card.name, len(model.checks)) == (layers, "llama", 9)
    text = " Once upon a time there was a sad dog."
    assert "".join(model.token_texts(model.encode(text.strip()))) == "<s>" + text
    assert capfd.readouterr().err == ""
