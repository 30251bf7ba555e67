"""Names, devices, memory and the hub: what cannot be loaded says why."""

import json
import shutil

import pytest
import torch
from conftest import real_model

from emocircuits.errors import Failure, UserError
from emocircuits.models import load_model
from emocircuits.models.planted.model import write_planted_model
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


def test_the_planted_model_needs_no_directory(tmp_path):
    model = load_model("planted")
    written = load_model(str(write_planted_model(tmp_path / "planted")))
    assert model.content_hash == written.content_hash and model.name == "planted"
    assert load_model("planted").directory == model.directory


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


@pytest.mark.real_model
@pytest.mark.parametrize("name, layers", [("stories260K", 5), ("tinystories-sp2M", 6)])
def test_real_models(name, layers, capfd):
    path = real_model(name)
    if name == "tinystories-sp2M":
        with pytest.raises(UserError, match="--trust-remote-code"):
            load_model(str(path))
    model = load_model(str(path), trust_remote_code=name == "tinystories-sp2M")
    assert (model.n_layers, model.card.name, len(model.checks)) == (layers, "llama", 10)
    text = " Once upon a time there was a sad dog."
    assert "".join(model.token_texts(model.encode(text.strip()))) == "<s>" + text
    assert capfd.readouterr().err == ""
