"""Every release of sae-lens' directory through the loader that sae-lens names for it, from files that lie
here: what comes out is what the project's own formula says.
"""

import json
import os

import huggingface_hub
import pytest
import torch
from sae.foreign_files import (
    D_IN,
    WRITERS,
    Weights,
    write_dictionary,
    write_goodfire,
    write_sae_lens,
)
from safetensors.torch import load_file

from emocircuits.errors import UserError
from emocircuits.sae.dictionary import open_dictionaries
from emocircuits.sae.loading.load import load_saes
from emocircuits.sae.loading.loaders import DOORS, tensors_of
from emocircuits.sae.loading.pretrained import PretrainedSource, find_pretrained, open_pretrained
from emocircuits.sae.loading.releases import releases, saes_of

SITE = "blocks.12.hook_resid_post"


def residual_saes():
    """One SAE of every release that has some of the residual stream between blocks."""
    first = {}
    for release in releases():
        for sae in saes_of(release).values():
            if sae.place.endswith("hook_resid_post"):
                first.setdefault(release, sae)
    return first


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the hub; a function that puts an SAE of a release into it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(sae, weights):
        repository = tmp_path / "hub" / f"models--{sae.repository.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text("0" * 40)
        writer, folder = WRITERS[sae.loader]
        path = repository / "snapshots" / ("0" * 40) / sae.folder
        (path if folder else path.parent).mkdir(parents=True, exist_ok=True)
        hook = sae.place
        if "hook_resid_pre" in sae.sae_id:  # as its own configuration has it
            hook = sae.sae_id.rpartition("pre")[0] + "pre"
        scaled = {"scale": sae.scale} if sae.scale and sae.loader.startswith("llama_scope") else {}
        return writer(path, weights, hook, **scaled)

    return put


def test_every_release_opens_through_its_own_loader(hub):
    """Files of the release's own form in the hub's cache; RELEASE:ID gives the SAE of the formula."""
    torch.manual_seed(0)
    weights, x = Weights.random(d_sae=128, k=50), torch.randn(20, D_IN)
    opened, whole = 0, set()
    for release, sae in residual_saes().items():
        if sae.loader == "temporal":
            whole.add(release)
            continue
        many = sae.loader == "qwen_scope"  # whose repository's name says k
        k = int(sae.repository.rpartition("_")[2]) if many else 50
        given = weights if k == 50 else Weights.random(d_sae=128, k=k)
        formula = hub(sae, given)
        found = open_pretrained(find_pretrained(sae.name), site=sae.place)
        assert found.cfg.metadata.hook_name == sae.place, release
        assert found.cfg.metadata.pretrained == sae.name
        scale = 1.0
        if found.cfg.normalize_activations == "constant_norm_rescale":  # each input to the norm sqrt(d)
            scale = D_IN**0.5 / x.norm(dim=-1, keepdim=True)
        torch.testing.assert_close(found(x), formula(x * scale) / scale, rtol=1e-4, atol=1e-5, msg=release)
        if found.cfg.normalize_activations == "none":  # what matching and attribution take
            view = open_dictionaries({sae.place: found})[sae.place]
            torch.testing.assert_close(view.decode(view.encode(x)), formula(x), rtol=1e-4, atol=1e-5)
        opened += 1
    assert opened >= 83 and whole == {"temporal-sae-gemma-2-2b", "temporal-sae-llama-3.1-8b"}


@pytest.mark.parametrize(
    ("release", "layer"),
    [
        ("gemma-scope-2-270m-it-res", 12),
        ("gemma-scope-2b-pt-res-canonical", 5),
        ("qwen-scope-3-1.7b-base-w32k-l50", 3),
        ("llama-3.1-8b-instruct-andyrdt", 7),
        ("goodfire-llama-3.3-70b-instruct", 50),
        ("gpt2-small-res-jb", 2),
    ],
)
def test_a_release_by_its_layers(hub, release, layer):
    torch.manual_seed(0)
    site, x = f"blocks.{layer}.hook_resid_post", torch.randn(20, D_IN)
    at = {sae.sae_id: sae for sae in saes_of(release).values() if sae.place == site}
    formulas = {
        name: hub(sae, Weights.random(seed, d_sae=128, k=50)) for seed, (name, sae) in enumerate(at.items())
    }
    found = load_saes(release, layers=[layer])
    assert list(found) == [site]
    sae = at[found[site].cfg.metadata.pretrained.partition(":")[2]]
    torch.testing.assert_close(found[site](x), formulas[sae.sae_id](x), rtol=1e-4, atol=1e-5)
    assert (found[site].cfg.metadata.neuronpedia_id or "") == sae.neuronpedia
    with pytest.raises(UserError, match=f"{release} has 0 SAEs after layer 99"):
        load_saes(release, layers=[99])


@pytest.mark.parametrize(
    "kind",
    [
        "AutoEncoder",
        "AutoEncoderNew",
        "AutoEncoderTopK",
        "GatedAutoEncoder",
        "JumpReluAutoEncoder",
        "BatchTopKSAE",
        "MatryoshkaBatchTopKSAE",
    ],
)
@pytest.mark.parametrize("file", ["ae.pt", "ae.safetensors"])
def test_the_kinds_of_dictionary_learning(tmp_path, kind, file):
    weights, x = Weights.random(), torch.randn(20, D_IN)
    formula = write_dictionary(tmp_path, weights, SITE, kind=kind, file=file)
    found = load_saes({12: tmp_path})[SITE]
    torch.testing.assert_close(found(x), formula(x), rtol=1e-4, atol=1e-5)
    settings = json.loads((tmp_path / "config.json").read_text())  # rows of another library's making
    del settings["buffer"], settings["trainer"]["lm_name"]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    again = load_saes({12: tmp_path})[SITE]
    torch.testing.assert_close(again(x), found(x))


def test_a_kind_that_nobody_knows_is_no_relu_sae(tmp_path):
    write_dictionary(tmp_path, Weights.random(), SITE, kind="CrossCoder")
    with pytest.raises(UserError, match="dict_class CrossCoder, known are AutoEncoder, "):
        load_saes({12: tmp_path})


def test_one_file_of_weights_is_enough_of_a_name(tmp_path):
    formula, x = (
        write_goodfire(tmp_path / "Llama-3.1-8B-Instruct-SAE-l19.pth", Weights.random(), ""),
        torch.randn(20, D_IN),
    )
    for path in (tmp_path, tmp_path / "Llama-3.1-8B-Instruct-SAE-l19.pth"):
        found = load_saes(path)
        assert list(found) == ["blocks.19.hook_resid_post"]
        torch.testing.assert_close(found["blocks.19.hook_resid_post"](x), formula(x), rtol=1e-4, atol=1e-5)
    write_dictionary(tmp_path, Weights.random(), SITE)
    assert list(load_saes(tmp_path / "ae.pt")) == [SITE]


def test_a_folder_of_many_gives_the_one_of_the_layer(tmp_path):
    """As a repository of the hub looks when it was downloaded as a whole."""
    x, formulas = torch.randn(20, D_IN), {}
    for layer in (3, 12):
        for trainer in (0, 1):
            folder = tmp_path / f"resid_post_layer_{layer}" / f"trainer_{trainer}"
            folder.mkdir(parents=True)
            place = f"blocks.{layer}.hook_resid_post"
            formulas[layer, trainer] = write_dictionary(folder, Weights.random(layer + trainer), place)
    (tmp_path / "resid_post_layer_12" / "trainer_1").rename(tmp_path / "elsewhere")
    assert list(load_saes(tmp_path / "resid_post_layer_12")) == [SITE]
    found = load_saes(tmp_path / "resid_post_layer_12", layers=[12])[SITE]
    torch.testing.assert_close(found(x), formulas[12, 0](x), rtol=1e-4, atol=1e-5)
    with pytest.raises(
        UserError,
        match="has 2 SAEs of blocks.3.hook_resid_post; expected one; name one of .*trainer_0, .*trainer_1",
    ):
        load_saes(tmp_path, layers=[3])
    with pytest.raises(UserError, match="has 0 SAEs of blocks.5.hook_resid_post"):
        load_saes({5: tmp_path})


class Payload:
    """What a file may hold that runs code when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("environment", ["", "1"])
def test_a_file_that_would_run_code_is_not_read(tmp_path, monkeypatch, environment):
    """Whatever the environment allows to other programs."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", environment)
    mark, file = tmp_path / "ran", tmp_path / "Llama-3.1-8B-Instruct-SAE-l19.pth"
    torch.save({"encoder_linear.weight": Payload(mark)}, file)
    with pytest.raises(UserError, match="holds more than tensors or is damaged .* can run code; expected"):
        load_saes({19: file})
    assert not mark.exists()
    torch.save(torch.zeros(3), tmp_path / "one.pt")
    with pytest.raises(UserError, match="holds a Tensor; expected tensors by their names"):
        tensors_of(tmp_path / "one.pt")
    torch.load(file, weights_only=False)  # the file is as dangerous as the test says
    assert mark.exists()


def test_sae_lens_reaches_for_files_through_our_doors_alone():
    """A new version of its module that found another way to the network or to a pickle would fail here."""
    import inspect
    import re

    from sae_lens.loading import pretrained_sae_loaders

    text = inspect.getsource(pretrained_sae_loaders)
    imported = set(re.findall(r"^(?:import|from) ([\w.]+)", text, re.MULTILINE))
    assert imported == {
        "json", "re", "time", "warnings", "pathlib", "typing", "numpy", "requests", "torch", "yaml",
        "huggingface_hub", "huggingface_hub.utils", "packaging.version", "safetensors", "sae_lens",
        "sae_lens.constants", "sae_lens.loading.pretrained_saes_directory", "sae_lens.registry",
        "sae_lens.util",
    }  # fmt: skip
    assert not re.search(r"allow_pickle|snapshot_download|weights_only|yaml\.(?!safe_load)\w*load", text)
    assert {"hf_hub_download", "hf_hub_url", "requests", "torch", "json"} <= set(DOORS)


def test_what_is_not_here_is_fetched_once_it_may_be_and_nothing_else(hub, monkeypatch, tmp_path):
    sae = saes_of("gpt2-small-res-jb")["blocks.3.hook_resid_pre"]
    with pytest.raises(
        UserError, match="lacks a file .*cfg.json is not in the local cache and HF_HUB_OFFLINE is set"
    ):
        load_saes({2: sae.name})
    asked = []
    folder = tmp_path / "hub_files" / sae.folder
    folder.mkdir(parents=True)
    write_sae_lens(folder, Weights.random(), "blocks.3.hook_resid_pre")

    def download(repository, name):
        asked.append((repository, name))
        return str(tmp_path / "hub_files" / name)

    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    load_saes({2: sae.name})
    assert set(asked) == {
        (sae.repository, f"{sae.folder}/{name}") for name in ("cfg.json", "sae_weights.safetensors")
    }

    def broken(repository, name):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", broken)
    with pytest.raises(
        UserError, match="cannot fetch .*cfg.json.* from jbloom/.*ConnectionError.; check the network"
    ):
        load_saes({2: sae.name})


def test_names_of_releases():
    with pytest.raises(
        UserError,
        match="unknown sae-lens release 'gemma-scope-2b-pt-res-canonica'; did you mean "
        "'gemma-scope-2b-pt-res-canonical'",
    ):
        find_pretrained("gemma-scope-2b-pt-res-canonica:layer_12/width_16k/canonical")
    with pytest.raises(UserError, match="unknown SAE of gemma-scope"):
        find_pretrained("gemma-scope-2b-pt-res-canonical:layer_12/width_15k/canonical")
    with pytest.raises(UserError, match="is no directory; expected a directory, or RELEASE:ID"):
        find_pretrained("nowhere")
    found = find_pretrained("gemma-scope-2b-pt-res-canonical:layer_12/width_16k/canonical")
    assert found.published.repository == "google/gemma-scope-2b-pt-res"
    assert found.neuronpedia == "gemma-2-2b/12-gemmascope-res-16k"
    assert found.published.folder.rpartition("/")[2].startswith("average_l0")
    assert find_pretrained("goodfire-llama-3.3-70b-instruct:layer_50").l0 == 121


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    weights = Weights.random()
    weights.decoder[3, 3] = float("nan")
    write_sae_lens(tmp_path, weights, SITE)
    with pytest.raises(UserError, match="holds NaN or infinity in W_dec"):
        open_pretrained(PretrainedSource("mine", tmp_path), site=SITE)
    assert load_file(tmp_path / "sae_weights.safetensors")["W_dec"].isnan().any()
