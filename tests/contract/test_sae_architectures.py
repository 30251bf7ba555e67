"""Every SAE architecture keeps the contract: a recipe, a pair plain sae-lens reads with equal outputs, L0 as
asked for.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures.planted_store import FILES, SITES, D, contents, planted_store, train_pairs
from sae_lens import SAE, TrainingSAE

from emocircuits.errors import UserError
from emocircuits.runs.recipe import load_recipe
from emocircuits.sae import ARCHITECTURES, SAESettings, load_sae, reconstruction, train_saes, training_rows
from emocircuits.sae.training.train import train_one

RECIPES = Path(__file__).resolve().parents[2] / "saes"
SITE, NAMES = SITES[1], ARCHITECTURES.names()
TARGETS_L0 = {"topk", "batchtopk", "matryoshka_batchtopk"}


def settings(name, **changes):
    sparsity = {"standard": 2.0, "gated": 2.0, "jumprelu": 0.05}.get(name, 1.0)
    values = {
        "expansion": 4,
        "k": 3,
        "training_rows": 20_000,
        "batch_size": 200,
        "lr": 1e-2,
        "levels": 3,
        "sparsity": sparsity,
    }
    return SAESettings(architecture=name, **{**values, **changes})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return planted_store(tmp_path_factory.mktemp("store") / "activations.h5", n_prompts=120)


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    """name -> (the training SAE just before it is saved, directory of its pair)."""
    made = {}
    for name in NAMES:
        sae = train_one(store, SITE, settings(name), training_rows(store))
        made[name] = (
            sae,
            train_pairs(store, tmp_path_factory.mktemp(name), settings(name), layers=[SITE])[SITE],
        )
    return made


@pytest.mark.parametrize("name", NAMES)
def test_there_is_a_recipe(name):
    recipe = load_recipe(RECIPES / f"{name}.toml")
    assert recipe.sae.architecture == name and recipe.model == "organism"


def test_every_recipe_names_a_member():
    assert {path.stem for path in RECIPES.glob("*.toml")} - {"registry"} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_plain_sae_lens_reads_the_pair_with_equal_outputs(store, trained, name):
    sae, directory = trained[name]
    assert sorted(path.name for path in directory.iterdir()) == sorted(FILES)
    plain, ours = SAE.load_from_disk(directory), load_sae(directory, site=SITE, d_in=D)
    x = torch.from_numpy(store.read(SITE, slice(1, 400)))
    acts = plain.encode(x)
    assert torch.equal(acts, ours.encode(x)) and torch.equal(plain(x), ours(x))
    with torch.no_grad():
        if name in ("batchtopk", "matryoshka_batchtopk"):  # saved as JumpReLU: compared with its definition
            pre = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
            expected = pre * (pre > sae.topk_threshold)
        else:
            expected = sae.encode(x)
        torch.testing.assert_close(acts, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(plain.decode(acts), expected @ sae.W_dec + sae.b_dec, rtol=1e-4, atol=1e-4)
    assert acts.count_nonzero() > 0


@pytest.mark.parametrize("name", NAMES)
def test_decoder_rows_have_unit_length(trained, name):
    sae = SAE.load_from_disk(trained[name][1])
    alive = sae.W_dec.norm(dim=1) > 0
    torch.testing.assert_close(sae.W_dec.norm(dim=1)[alive], torch.ones(int(alive.sum())))


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_and_l0_is_what_was_asked_for(store, trained, name):
    held = store.select((store.prompts["split"] == "held_out").to_numpy(), start=1)
    quality = reconstruction(load_sae(trained[name][1]), store, SITE, held)
    assert quality.fvu < 0.35 and quality.dead_fraction < 0.7
    if name in TARGETS_L0:
        assert quality.l0 == pytest.approx(3, rel=0.03)
    else:
        assert 0.5 < quality.l0 < 12


@pytest.mark.parametrize("name", NAMES)
def test_the_decoder_bias_starts_at_the_mean(store, name):
    rows, seen = training_rows(store), {}
    short = settings(name, training_rows=200)

    class Stop(Exception):
        pass

    real = ARCHITECTURES.get(name).build

    def build(*arguments):
        seen["sae"] = real(*arguments)
        assert isinstance(seen["sae"], TrainingSAE)
        return seen["sae"]

    def stop(steps):
        raise Stop

    with ARCHITECTURES.temporarily(replace(ARCHITECTURES.get(name), build=build)), pytest.raises(Stop):
        train_one(store, SITE, short, rows, after_step=stop)
    x = store.read(SITE, rows.rows()).astype("float64")
    mean, deviation = x.mean(0), x.var(0).mean() ** 0.5
    # one Adam step moves each coordinate by at most the learning rate
    assert abs(seen["sae"].b_dec.detach().numpy() - mean / deviation).max() < 1.1 * short.lr


@pytest.mark.parametrize("name", NAMES)
def test_the_same_settings_give_the_same_bytes(store, tmp_path, name):
    short = settings(name, training_rows=2_000)
    first, second = (contents(train_pairs(store, tmp_path / out, short, layers=[SITE])) for out in "ab")
    assert first == second


@pytest.mark.parametrize("name", NAMES)
def test_k_beyond_the_dictionary_is_refused(store, tmp_path, name):
    with pytest.raises(UserError, match="sae.k is 400; expected at most d_sae"):
        train_saes(store, tmp_path, settings(name, k=400), layers=[SITE])
    assert list(tmp_path.iterdir()) == []


def test_too_many_levels_are_refused(store, tmp_path):
    with pytest.raises(UserError, match="sae.levels is 9; expected from 2 to 7 for d_sae 64"):
        train_saes(store, tmp_path, settings("matryoshka_batchtopk", levels=9), layers=[SITE])
    assert not (tmp_path / SITE).exists()


def test_an_unknown_kernel_or_dtype_is_refused():
    with pytest.raises(UserError, match="unknown sae.kernel 'spars'; did you mean 'sparse'"):
        settings("topk", kernel="spars")
    with pytest.raises(UserError, match="unknown sae.encoder_dtype 'float16'"):
        settings("topk", encoder_dtype="float16")
