"""SAEs of several sites in lockstep from a stream: what training from a store gives, whatever happened on the
way.
"""

import multiprocessing
import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.planted_store import SITES, contents, planted_store

from emocircuits.artifacts.store.stream import ActivationStream
from emocircuits.errors import Failure, UserError
from emocircuits.sae import (
    SAESettings,
    held_out_rows,
    load_sae,
    reconstruction,
    train_from_stream,
    training_rows,
)
from emocircuits.sae.training import train_stream as module

SETTINGS = SAESettings(expansion=4, k=4, training_rows=6_000, batch_size=200, lr=1e-2)
SEED = 3
ABOUT = {"model_name": "tiny", "model_hash": "m" * 64}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return planted_store(tmp_path_factory.mktemp("store") / "a.h5", n_prompts=100)


def stream_of(store, settings=SETTINGS, sites=SITES):
    return ActivationStream(store, sites, settings.batch_size, SEED, rows=training_rows(store), window=1000)


def train(store, out, settings=SETTINGS, **options):
    return train_from_stream(stream_of(store, settings), settings, out, origin="o", about=ABOUT, **options)


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_it_learns_at_every_site(store, tmp_path, architecture):
    settings = SAESettings(**{**SETTINGS.__dict__, "architecture": architecture, "training_rows": 40_000})
    paths = train(store, tmp_path, settings)
    assert list(paths) == list(SITES)
    for site, path in paths.items():
        found = reconstruction(
            load_sae(path, site=site, model_hash="m" * 64), store, site, held_out_rows(store)
        )
        assert found.fvu < 0.1 and found.l0 == pytest.approx(4, rel=0.06)


def test_one_or_two_workers_give_the_same_bytes_and_finished_sites_are_skipped(store, tmp_path, monkeypatch):
    first = contents(train(store, tmp_path / "a", replace(SETTINGS, workers=1)))
    assert first == contents(train(store, tmp_path / "b", replace(SETTINGS, workers=2)))
    monkeypatch.setattr(module, "Training", None)  # nothing is trained again
    assert contents(train(store, tmp_path / "a")) == first


@pytest.mark.parametrize("step", [1, 13, 29])
def test_sigkill_and_again_gives_the_same_bytes(store, tmp_path, step):
    whole = contents(train(store, tmp_path / "whole"))

    def work():
        real, count = module.Training.step, [0]

        def step_and_die(self, batch):
            real(self, batch)
            count[0] += 1
            if count[0] == 2 * step + 1:  # the two sites' checkpoints are one step apart
                os.kill(os.getpid(), signal.SIGKILL)

        module.Training.step = step_and_die
        train(store, tmp_path / "part", replace(SETTINGS, workers=1, checkpoint_minutes=0.0))

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(180)
    assert child.exitcode == -signal.SIGKILL
    assert contents(train(store, tmp_path / "part", replace(SETTINGS, checkpoint_minutes=0.0))) == whole
    assert sorted(path.name for path in (tmp_path / "part").iterdir()) == sorted(SITES)


def test_ctrl_c_leaves_checkpoints(store, tmp_path, monkeypatch):
    real, begun, failed = module.Training.step, threading.Event(), threading.Event()

    def step(self, batch):
        if self.steps_done == 4 and self.source.site == SITES[0]:
            assert begun.wait(60), "the other site's step did not begin"
            failed.set()
            raise KeyboardInterrupt
        if self.steps_done == 4:
            begun.set()
            # a step that has begun when the other one fails is finished, then saved
            assert failed.wait(60), "the first site's step did not fail"
        real(self, batch)

    monkeypatch.setattr(module.Training, "step", step)
    with pytest.raises(KeyboardInterrupt):
        train(store, tmp_path, replace(SETTINGS, workers=2))
    steps = {site: [path.name for path in (tmp_path / ".checkpoints" / site).iterdir()] for site in SITES}
    assert (
        all(len(names) == 1 for names in steps.values())
        and "5" in steps[SITES[1]][0]
        and "4" in steps[SITES[0]][0]
    ), steps
    monkeypatch.undo()
    assert contents(train(store, tmp_path)) == contents(train(store, tmp_path / "whole"))


def test_what_does_not_fit_is_refused(store, tmp_path):
    with pytest.raises(UserError, match="a stream with batch_size 200; expected 100"):
        other = SAESettings(**{**SETTINGS.__dict__, "batch_size": 100})
        train_from_stream(stream_of(store), other, tmp_path, origin="o", about=ABOUT)
    with pytest.raises(UserError, match="sae.k is 400"):
        train(store, tmp_path, SAESettings(**{**SETTINGS.__dict__, "k": 400}))
    assert list(tmp_path.iterdir()) == []


def test_rows_that_are_not_finite_are_named(store, tmp_path):
    class Broken(ActivationStream):
        def batch(self, step):
            found = super().batch(step)
            if step == 7:
                found[SITES[1]][3, 2] = np.nan
            return found

    stream = Broken(store, SITES, 200, 3, rows=training_rows(store), window=1000)
    with pytest.raises(Failure, match="NaN or infinity at blocks.1.hook_resid_post .batch 7."):
        train_from_stream(stream, SETTINGS, tmp_path, origin="o", about=ABOUT)
    assert not (tmp_path / SITES[0]).exists() and torch.get_num_threads() >= 1
