"""SAE training: sae-lens' own numbers, the same bytes whatever happened on the way, and a planted dictionary
found again.
"""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.planted_store import FILES, SITES, D, contents, overwrite, planted, planted_store, train_pairs
from sae_lens import SAE, SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.errors import UserError
from emocircuits.progress import quiet
from emocircuits.sae import SAESettings, load_sae, reconstruction, train_saes
from emocircuits.sae.rows import moments, training_rows
from emocircuits.sae.training import train as train_module


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ActivationStore:
    return planted_store(tmp_path_factory.mktemp("store") / "activations.h5")


SETTINGS = SAESettings(
    expansion=4, k=4, training_rows=60_000, batch_size=256, lr=1e-2, aux_coefficient=1 / 32
)
SHORT = SAESettings(expansion=2, k=4, training_rows=5_000, batch_size=250)


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    return train_pairs(store, tmp_path_factory.mktemp("saes"), SETTINGS, layers=SITES, seed=3)


def test_planted_dictionary_is_found(store, trained):
    rows = store.select((store.prompts["split"] == "held_out").to_numpy(), start=1)
    for number, site in enumerate(SITES):
        sae = load_sae(trained[site], site=site, d_in=D, model_hash="m" * 64)
        quality = reconstruction(sae, store, site, rows)
        # 64 features for 24 truths
        assert quality.fvu < 0.05 and quality.dead_fraction < 0.3 and quality.l0 <= 4
        cosines = planted(number, 1)[1] @ sae.W_dec.numpy().T
        assert np.median(cosines.max(axis=1)) > 0.95
        torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(64))


def test_the_pair_is_plain_sae_lens(store, trained):
    config = json.loads((trained[SITES[0]] / "cfg.json").read_text())
    metadata = config["metadata"]
    assert sorted(path.name for path in trained[SITES[0]].iterdir()) == sorted(FILES)
    assert (
        config["architecture"] == "topk"
        and config["d_in"] == D
        and config["d_sae"] == 64
        and config["k"] == 4
    )
    assert (
        metadata["hook_name"] == SITES[0]
        and metadata["model_name"] == "tiny"
        and metadata["model_hash"] == "m" * 64
    )
    ours, theirs = load_sae(trained[SITES[0]]), SAE.load_from_disk(trained[SITES[0]])
    x = torch.from_numpy(store.read(SITES[0], slice(1, 40)))
    assert torch.equal(ours(x), theirs(x)) and torch.equal(ours.encode(x), theirs.encode(x))


def test_weights_equal_a_run_of_sae_lens_fit(store, trained):
    """The same batches through `SAETrainer.fit`: same training, then scale and norms folded by hand."""
    site, rows = SITES[1], training_rows(store)
    mean, deviation = moments(store, site, rows)
    torch.manual_seed(3)
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=D, d_sae=64, k=4, aux_loss_coefficient=1 / 32))
    sae.b_dec.data = torch.from_numpy(mean / deviation).float()
    steps = 60_000 // 256
    batches = (
        torch.from_numpy(batch) / deviation for batch in store.shuffled_batches(site, 256, 3, rows=rows)
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    SAETrainer(
        SAETrainerConfig(
            total_training_samples=steps * 256,
            train_batch_size_samples=256,
            lr=1e-2,
            lr_end=1e-3,
            lr_warm_up_steps=SETTINGS.warm_up_steps,
            lr_decay_steps=SETTINGS.decay_steps,
            dead_feature_window=SETTINGS.dead_feature_window,
            feature_sampling_window=steps // 2,
        ),
        sae,
        batches,
    ).fit()
    torch.set_num_threads(threads)
    x = torch.from_numpy(store.read(site, slice(1, 40)))
    expected_acts = sae.encode(x / deviation).detach() * deviation
    expected = sae(x / deviation).detach() * deviation
    ours = load_sae(trained[site])
    torch.testing.assert_close(ours(x), expected, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(ours.encode(x), expected_acts, rtol=5e-3, atol=5e-3)


def test_moments_and_training_rows(store):
    chosen = training_rows(store)
    rows = chosen.rows()
    assert (store.positions[rows] > 0).all() and set(
        store.prompts["split"].iloc[store.prompt_index[rows]]
    ) == {"train"}
    x = store.read(SITES[0], rows).astype(np.float64)
    mean, deviation = moments(store, SITES[0], chosen)
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-9)
    np.testing.assert_allclose(deviation, np.sqrt(x.var(0).mean()), rtol=1e-9)


def test_same_bytes_with_one_or_two_workers_and_other_thread_counts(store, tmp_path):
    first = contents(train_pairs(store, tmp_path / "a", replace(SHORT, workers=1), layers=SITES))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(99)
    second = contents(train_pairs(store, tmp_path / "b", replace(SHORT, workers=2), layers=SITES))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
    assert first == second


def test_finished_sites_are_skipped_and_interrupted_ones_give_the_same_bytes(store, tmp_path, monkeypatch):
    whole = contents(train_pairs(store, tmp_path / "whole", SHORT, layers=SITES))
    calls, real, lock = [], train_module.train_one, threading.Lock()

    def broken(store, site, settings, rows, **options):
        with lock:
            calls.append(site)
        if site == SITES[1]:
            left = iter(range(5))

            def stop(steps):
                if next(left, None) is None:
                    raise KeyboardInterrupt

            options["after_step"] = stop
        return real(store, site, settings, rows, **options)

    monkeypatch.setattr(train_module, "train_one", broken)
    with pytest.raises(KeyboardInterrupt):
        train_saes(store, tmp_path / "part", replace(SHORT, workers=1), layers=SITES)
    assert sorted(path.name for path in (tmp_path / "part").iterdir()) == [".checkpoints", SITES[0]]
    monkeypatch.setattr(
        train_module,
        "train_one",
        lambda store, site, *a, **k: (calls.append(site), real(store, site, *a, **k))[1],
    )
    calls.clear()
    assert contents(train_pairs(store, tmp_path / "part", SHORT, layers=SITES)) == whole and calls == [
        SITES[1]
    ]
    calls.clear()
    train_saes(store, tmp_path / "part", SHORT, layers=SITES)
    assert calls == []
    weights = tmp_path / "part" / SITES[0] / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    assert contents(train_pairs(store, tmp_path / "part", SHORT, layers=SITES)) == whole and calls == [
        SITES[0]
    ]
    calls.clear()
    assert contents(train_pairs(store, tmp_path / "part", SHORT, layers=SITES[:1], seed=1))[
        SITES[0]
    ] != whole[SITES[0]] and calls == [SITES[0]]


def test_wrong_settings_and_sites(store, tmp_path):
    with pytest.raises(UserError, match="sae.k is 40; expected at most d_sae = expansion \\* d_model = 32"):
        train_saes(store, tmp_path, SAESettings(expansion=2, k=40), layers=SITES)
    with pytest.raises(UserError, match="unknown site 'blocks.5"):
        train_saes(store, tmp_path, SHORT, layers=["blocks.5.hook_resid_post"])
    with pytest.raises(UserError, match="unknown SAE architecture 'topkk'; did you mean 'topk'"):
        train_saes(store, tmp_path, SAESettings(architecture="topkk"), layers=SITES)
    with pytest.raises(UserError, match="no rows"):
        train_saes(store, tmp_path, SHORT, layers=SITES, rows=np.array([], dtype=np.int64))
    with pytest.raises(UserError, match="sae.batch_size is 0"):
        SAESettings(batch_size=0)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_directory_is_a_failure_in_one_line(store, tmp_path):
    from emocircuits.errors import Failure

    (tmp_path / "saes").write_text("a file where the directory should be")
    with pytest.raises(Failure, match="cannot write .*saes"):
        train_saes(store, tmp_path / "saes", SHORT, layers=SITES[:1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_named_and_nothing_is_written(tmp_path, bad):
    store = planted_store(tmp_path / "a.h5", n_prompts=30)
    overwrite(store, SITES[1], 6 * 40 + 7, 3, bad)
    with pytest.raises(
        UserError,
        match="row 247 of a.h5 at blocks.1.hook_resid_post holds NaN or infinity .prompt 'p6', position 7",
    ):
        train_saes(store, tmp_path / "saes", SHORT, layers=SITES[1:])
    assert not (tmp_path / "saes" / SITES[1]).exists()


def test_a_bad_row_outside_the_sample_of_the_moments_is_caught_in_the_stream(tmp_path, monkeypatch):
    from emocircuits.sae import rows as rows_module

    store = planted_store(tmp_path / "a.h5", n_prompts=30)
    overwrite(store, SITES[0], 48, 0, np.nan)
    monkeypatch.setattr(rows_module, "MOMENT_ROWS", 100)
    with pytest.raises(UserError, match="row 48 .*prompt 'p1', position 8"):
        train_saes(store, tmp_path / "saes", SHORT, layers=SITES[:1])


@pytest.mark.parametrize("kernel", ["sparse", "dense"])
def test_a_frozen_decoder_keeps_its_directions_and_resumes(store, tmp_path, kernel):
    frozen = SAESettings(**{**SHORT.__dict__, "frozen_decoder": True, "kernel": kernel})
    path = train_pairs(store, tmp_path, replace(frozen, checkpoint_minutes=0.0), layers=SITES[:1])[SITES[0]]
    torch.manual_seed(0)
    start = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=D, d_sae=32, k=4)).W_dec
    torch.testing.assert_close(load_sae(path).W_dec, start / start.norm(dim=1, keepdim=True))


def test_a_quiet_caller_has_quiet_threads(store, tmp_path, capsys):
    with quiet():
        train_saes(store, tmp_path / "quiet", SHORT, layers=SITES)
    assert capsys.readouterr().err == ""
    train_saes(store, tmp_path / "loud", SHORT, layers=SITES)
    assert capsys.readouterr().err.count("gamma = |mean| / |sigma|") == 2
