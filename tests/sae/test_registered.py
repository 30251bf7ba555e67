"""A registered SAE is found by name, and refused when it is not what was registered or does not do what was
recorded.
"""

import dataclasses

import pytest
import torch
from fixtures.planted_store import SITES, planted_store

from emocircuits.errors import UserError
from emocircuits.sae import SAESettings, held_out_rows, load_sae, reconstruction, train_saes
from emocircuits.sae.loading.registered import (
    Quality,
    entry_of,
    find_registered,
    open_registered,
    read_registry,
    register,
)

SITE, MODEL = SITES[1], "m" * 64


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A registry with one SAE, and held-out activations of its site."""
    root = tmp_path_factory.mktemp("registry")
    store = planted_store(root / "a.h5", n_prompts=120)
    settings = SAESettings(expansion=4, k=4, training_rows=40_000, batch_size=250, lr=1e-2)
    train_saes(store, root / "saes" / "mine", settings, layers=[SITE])
    directory, registry = root / "saes" / "mine" / SITE, root / "saes" / "registry.toml"
    sae = load_sae(directory)
    rows = held_out_rows(store)
    found = reconstruction(sae, store, SITE, rows)
    quality = Quality(
        found.l0, found.fvu, 0.99, found.dead_fraction, found.tokens, 'rows of "a"\n', store.content_hash
    )
    about = {"name": "mine", "model": "tiny", "model_hash": MODEL, "revision": "", "recipe": "topk.toml"}
    entry = entry_of(sae, directory, registry, quality=quality, **about)
    register(registry, [entry])
    return registry, entry, torch.from_numpy(store.read(SITE, rows))


def test_what_was_written_is_read(world):
    registry, entry, x = world
    assert read_registry(registry) == (entry,) and entry.path == f"mine/{SITE}" and entry.site == SITE
    sae = open_registered(registry, "mine", SITE, x, model_hash=MODEL)
    assert torch.equal(sae(x), load_sae(registry.parent / entry.path)(x))


def test_an_entry_of_the_same_name_and_site_is_replaced(world, tmp_path):
    _, entry, _ = world
    path = tmp_path / "registry.toml"
    other, newer = dataclasses.replace(entry, name="other"), dataclasses.replace(entry, recipe="new.toml")
    register(path, [entry, other])
    register(path, [newer])
    assert read_registry(path) == (newer, other)


@pytest.mark.parametrize("spoil", ["scale", "site", "sink", "few"])
def test_activations_that_do_not_belong_to_it_are_refused(world, spoil):
    registry, _, x = world
    wrong = {
        "scale": x * 5,
        "site": x[:, torch.randperm(x.shape[1])],
        "sink": torch.where(torch.arange(len(x))[:, None] % 3 == 0, x * 50, x),
        "few": x[:1],
    }[spoil]
    text = (
        "usual causes: .1. activations of another site, model or revision, .2. a scale"
        if spoil != "few"
        else "1 rows"
    )
    with pytest.raises(UserError, match=text):
        open_registered(registry, "mine", SITE, wrong)


def test_another_activation_function_is_caught(world, tmp_path):
    """What happened to SAEs that were saved as TopK and read as ReLU: they load, and reconstruct badly."""
    import json
    import shutil

    registry, entry, x = world
    shutil.copytree(registry.parent, tmp_path / "saes")
    config = tmp_path / "saes" / entry.path / "cfg.json"
    values = json.loads(config.read_text())
    values["k"] = 40
    config.write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"has L0 \d+\.\d and FVU .*; expected about L0 4.0"):
        open_registered(tmp_path / "saes" / "registry.toml", "mine", SITE, x)


def test_names_models_files_and_places_are_checked(world, tmp_path):
    registry, entry, x = world
    with pytest.raises(UserError, match="unknown registered SAE 'mime'; did you mean 'mine'"):
        find_registered(registry, "mime")
    with pytest.raises(UserError, match="unknown site of mine 'blocks.0.hook_resid_post'"):
        open_registered(registry, "mine", SITES[0], x)
    with pytest.raises(UserError, match="mine was trained on the model 'tiny'"):
        open_registered(registry, "mine", SITE, x, model_hash="f" * 64)
    register(
        tmp_path / "r.toml",
        [dataclasses.replace(entry, path=str(registry.parent / entry.path), weights_sha256="0" * 64)],
    )
    with pytest.raises(UserError, match="is not the file that was registered as mine"):
        open_registered(tmp_path / "r.toml", "mine", SITE, x)
    sae = load_sae(registry.parent / entry.path)
    with pytest.raises(UserError, match="is not below"):
        entry_of(
            sae,
            registry.parent / entry.path,
            tmp_path / "r.toml",
            name="x",
            model="",
            model_hash="",
            revision="",
            recipe="",
            quality=entry.quality,
        )


@pytest.mark.parametrize(
    "text", ["no toml [", "[[sae]]\nname = 'x'\n", "sae = 3", "[[sae]]\nname = 'x'\nquality = 3\n"]
)
def test_a_hostile_registry_is_one_line(tmp_path, text):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(UserError, match="is no registry of SAEs") as caught:
        read_registry(tmp_path / "r.toml")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="there is no registry"):
        read_registry(tmp_path / "absent.toml")


def test_two_entries_of_one_key_are_refused(world, tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(world[0].read_text() * 2)
    with pytest.raises(UserError, match="two entries for mine at"):
        read_registry(path)


@pytest.mark.parametrize("name", ["organism-topk", "organism-matching_pursuit"])
def test_the_shipped_ones_do_what_the_registry_says(name):
    """On texts of the organism that were made just now."""
    from conftest import ROOT

    from emocircuits.activations.residuals import row_reader
    from emocircuits.models import load_model
    from emocircuits.organism.corpus import generate

    model = load_model("organism", checks=False)
    tokens = [
        torch.tensor(model.encode(one.text)).numpy()
        for one in generate("story", 40, 99, "held_out", named=False)
    ]
    with row_reader(model, model.sites) as read:
        rows = read(tokens)
    inside = torch.cat([torch.arange(len(ids)) for ids in tokens]) > 0
    registry = ROOT / "saes" / "registry.toml"
    for site, entry in find_registered(registry, name).items():
        open_registered(
            registry, name, site, torch.from_numpy(rows[site])[inside], model_hash=model.content_hash
        )
        assert entry.quality.dead_fraction <= 0.02 and entry.quality.ce_loss_recovered >= 0.98
        assert entry.quality.fvu <= (0.05 if name.endswith("pursuit") else 0.07) and entry.quality.l0 <= 32


def test_the_registry_of_the_package_has_saes_of_the_organism():
    from emocircuits.sae.loading.registered import registered_for, shipped_registry

    entries = read_registry(shipped_registry())
    sites = [entry.site for entry in entries if entry.name == "organism-topk"]
    assert registered_for(shipped_registry(), entries[0].model_hash, sites) == "organism-topk"
    assert (
        registered_for(shipped_registry(), entries[0].model_hash, [*sites, "blocks.99.hook_resid_post"]) == ""
    )
    assert registered_for(shipped_registry(), "0" * 64, sites) == ""
