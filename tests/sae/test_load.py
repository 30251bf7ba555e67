"""SAEs by name: what was trained here, registered ones, releases, single files."""

import pytest
import torch
from fixtures.planted_store import SITES, planted_store

from emocircuits.errors import UserError
from emocircuits.sae import SAESettings, train_saes
from emocircuits.sae.loading.load import load_saes
from emocircuits.sae.loading.releases import sources_in

SETTINGS = SAESettings(expansion=2, k=4, training_rows=5_000, batch_size=250)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("load")
    store = planted_store(root / "a.h5")
    return store, root / "saes", train_saes(store, root / "saes", SETTINGS)


def test_a_trained_folder_gives_what_training_returned(world):
    store, folder, trained = world
    assert list(trained) == list(SITES)
    loaded = load_saes(folder, store=store)
    assert list(loaded) == list(SITES)
    for site, sae in loaded.items():
        assert torch.equal(sae.W_dec, trained[site].W_dec)
    assert list(load_saes(str(folder), layers=[1])) == [SITES[1]]
    assert list(load_saes(folder, layers=[SITES[0]])) == [SITES[0]]


def test_single_files_are_given_by_their_layer(world):
    store, folder, trained = world
    loaded = load_saes({1: folder / SITES[1], SITES[0]: str(folder / SITES[0])}, store=store)
    assert list(loaded) == list(SITES)
    torch.testing.assert_close(loaded[SITES[1]].W_dec, trained[SITES[1]].W_dec)
    unmeasured = load_saes({1: folder / SITES[1]})
    torch.testing.assert_close(unmeasured[SITES[1]].W_dec, trained[SITES[1]].W_dec)
    with pytest.raises(UserError, match=f"was trained on {SITES[1]}"):
        load_saes({0: folder / SITES[1]})


def test_registered_saes_belong_to_their_model(world):
    assert [str(sae.cfg.metadata.hook_name) for sae in load_saes("organism-topk").values()] == list(
        load_saes("organism-topk")
    )
    with pytest.raises(UserError, match="was trained on the model"):
        load_saes("organism-topk", layers=[0], store=world[0])


def test_what_is_not_there_is_refused(world):
    _, folder, _ = world
    with pytest.raises(UserError, match="has no SAE for blocks.7.hook_resid_post"):
        load_saes(folder, layers=[7])
    with pytest.raises(UserError, match="there are no SAEs 'organism-topkk'.*organism-topk"):
        load_saes("organism-topkk")
    with pytest.raises(UserError, match="without layers"):
        load_saes("gemma-scope-2-1b-it-res")


def test_a_release_gives_the_narrowest_sae_with_a_page():
    name = "gemma-scope-2-1b-it-res"
    assert sources_in(name, [13, 17]) == {
        13: f"{name}:layer_13_width_16k_l0_medium",
        17: f"{name}:layer_17_width_16k_l0_medium",
    }
    canonical = "gemma-scope-2b-pt-res-canonical"
    assert sources_in(canonical, [1]) == {1: f"{canonical}:layer_1/width_16k/canonical"}
    # the stream before a block is the stream after the one before it
    assert sources_in("gpt2-small-res-jb", [2, 10, 11]) == {
        2: "gpt2-small-res-jb:blocks.3.hook_resid_pre",
        10: "gpt2-small-res-jb:blocks.11.hook_resid_pre",
        11: "gpt2-small-res-jb:blocks.11.hook_resid_post",
    }
    with pytest.raises(UserError, match="has 0 SAEs after layer 12.*its ids are blocks.0.hook_resid_pre"):
        sources_in("gpt2-small-res-jb", [12])


def test_of_several_the_one_near_the_usual_l0_and_none_at_random():
    name = "gemma-scope-2-1b-it-res-all"
    assert sources_in(name, [10]) == {10: f"{name}:layer_10_width_16k_l0_big"}  # 120, the other has 20
    # a sweep over sparsities without a stated L0: the steps of training are left out, six are as good
    sweep = "sae_bench_gemma-2-2b_topk_width-2pow12_date-1109"
    with pytest.raises(UserError, match="48 SAEs after layer 12.*as good are .*trainer_0, .*trainer_5$"):
        sources_in(sweep, [12])
