"""Training that is killed, stopped or runs out of disk resumes from its last checkpoint and ends with the
same bytes.
"""

import errno
import json
import multiprocessing
import os
import signal
import time
from dataclasses import replace

import pytest
import safetensors
import torch
from fixtures.planted_store import SITES, contents, planted_store, train_pairs
from safetensors.torch import save_file

from emocircuits.errors import Failure, UserError
from emocircuits.io import atomic
from emocircuits.sae import SAESettings, train_saes
from emocircuits.sae.training import train as train_module
from emocircuits.sae.training.checkpoint import Checkpoints

SITE = SITES[0]
SETTINGS = {
    name: SAESettings(
        architecture=name, expansion=4, k=3, training_rows=2_400, batch_size=100, lr=1e-2, kernel=kernel
    )
    for name, kernel in (("topk", "sparse"), ("batchtopk", "sparse"), ("jumprelu", "auto"))
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return planted_store(tmp_path_factory.mktemp("store") / "activations.h5", n_prompts=40)


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    """The bytes of runs that nothing disturbed and that kept no checkpoint."""
    return {
        name: contents(
            train_pairs(
                store, tmp_path_factory.mktemp(name), replace(settings, checkpoint_minutes=1e9), layers=[SITE]
            )
        )[SITE]
        for name, settings in SETTINGS.items()
    }


def in_a_child(work, signal_number=signal.SIGKILL):
    """Runs `work` in a forked process that must die of the signal."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(180)
    assert process.exitcode == -signal_number


def train(store, name, out, **options):
    how = replace(SETTINGS[name], workers=1, checkpoint_minutes=0.0)
    return train_pairs(store, out, how, layers=[SITE], **options)


def killed_at_step(store, name, out, step):
    real = train_module.train_one

    def train_one(*arguments, after_step, **options):
        steps = 0

        def kill(more):
            nonlocal steps
            steps += more
            if steps >= step:
                os.kill(os.getpid(), signal.SIGKILL)
            after_step(more)

        return real(*arguments, after_step=kill, **options)

    def work():
        train_module.train_one = train_one
        train(store, name, out)

    in_a_child(work)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("topk", [1]),
        ("topk", [2, 3, 9]),
        ("topk", [11, 12, 13, 23]),
        ("topk", [24]),
        ("batchtopk", [5, 14]),
        ("jumprelu", [10]),
    ],
)
def test_killed_runs_end_with_the_same_bytes(store, whole, tmp_path, name, steps):
    for step in steps:
        killed_at_step(store, name, tmp_path, step)
        assert not (tmp_path / SITE).exists()
        found = sorted(path.name for path in (tmp_path / ".checkpoints" / SITE).iterdir())
        assert len(found) <= 2 and found[-1] == f"step-{step:09d}.safetensors"
    assert contents(train(store, name, tmp_path))[SITE] == whole[name]
    assert [path.name for path in tmp_path.iterdir()] == [SITE]


def test_killed_while_a_checkpoint_is_written(store, whole, tmp_path):
    """The kill falls between writing and renaming: the checkpoint before counts, the torn file is cleared
    away.
    """

    def work():
        real, calls = os.replace, []

        def replace(*paths):
            calls.append(paths)
            if len(calls) == 8:
                os.kill(os.getpid(), signal.SIGKILL)
            real(*paths)

        atomic.os.replace = replace
        train(store, "topk", tmp_path)

    in_a_child(work)
    names = sorted(path.name for path in (tmp_path / ".checkpoints" / SITE).iterdir())
    assert names[0].startswith(".step-000000008") and names[1:] == [
        "step-000000006.safetensors",
        "step-000000007.safetensors",
    ]
    assert contents(train(store, "topk", tmp_path))[SITE] == whole["topk"]
    assert [path.name for path in tmp_path.iterdir()] == [SITE]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_leave_a_checkpoint(store, whole, tmp_path, number):
    """The step at which the signal falls is saved although the next checkpoint is hours away."""
    ready = multiprocessing.get_context("fork").Event()

    def work():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
        real = train_module.train_one

        def slow(*arguments, after_step, **options):
            def wait(more):
                ready.set()
                time.sleep(0.05)
                after_step(more)

            return real(*arguments, after_step=wait, **options)

        train_module.train_one = slow
        try:
            train_saes(store, tmp_path, replace(SETTINGS["topk"], checkpoint_minutes=600.0), layers=[SITE])
        except KeyboardInterrupt:
            os._exit(77)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    assert ready.wait(120), "no step began"
    os.kill(process.pid, number)
    process.join(180)
    assert process.exitcode == 77
    assert len(list((tmp_path / ".checkpoints" / SITE).iterdir())) == 1
    assert contents(train(store, "topk", tmp_path))[SITE] == whole["topk"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_full_disk_leaves_the_last_good_checkpoint(store, whole, tmp_path, monkeypatch):
    real, calls = os.fsync, []

    def fsync(handle):
        calls.append(handle)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(atomic.os, "fsync", fsync)
    with pytest.raises(
        Failure, match="cannot write .*step-000000006.safetensors: No space left on device; free some space"
    ):
        train(store, "topk", tmp_path)
    monkeypatch.undo()
    kept = [path.name for path in sorted((tmp_path / ".checkpoints" / SITE).iterdir())]
    assert kept == ["step-000000004.safetensors", "step-000000005.safetensors"]
    assert contents(train(store, "topk", tmp_path))[SITE] == whole["topk"]


def rewrite(path, change):
    with safetensors.safe_open(path, "pt") as file:
        state = json.loads(file.metadata()["state"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    change(state, tensors)
    save_file(tensors, path, {"state": json.dumps(state)})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-30]),
        lambda path: path.write_bytes(b"\x80\x04pickle" * 50),
        lambda path: rewrite(path, lambda state, tensors: state.update(key="of another training")),
        lambda path: rewrite(path, lambda state, tensors: state.pop("lr_scheduler")),
        lambda path: rewrite(path, lambda state, tensors: tensors.pop("adam.W_dec.exp_avg")),
        lambda path: rewrite(path, lambda state, tensors: tensors.update({"sae.W_dec": torch.zeros(3, 3)})),
    ],
    ids=["empty", "cut", "pickle", "foreign", "no schedule", "no moment", "shape"],
)
def test_a_damaged_checkpoint_is_passed_over(store, whole, tmp_path, spoil):
    killed_at_step(store, "topk", tmp_path, 6)
    spoil(sorted((tmp_path / ".checkpoints" / SITE).iterdir())[-1])
    assert contents(train(store, "topk", tmp_path))[SITE] == whole["topk"]


def test_checkpoints_of_other_settings_are_not_used(store, whole, tmp_path):
    killed_at_step(store, "batchtopk", tmp_path, 6)
    assert contents(train(store, "topk", tmp_path))[SITE] == whole["topk"]
    assert [path.name for path in tmp_path.iterdir()] == [SITE]


def test_how_many_are_kept_and_how_often(store, tmp_path):
    killed_at_step(store, "topk", tmp_path / "a", 6)
    checkpoints = Checkpoints(tmp_path / "a" / ".checkpoints" / SITE, "key")
    assert len(checkpoints.paths()) == 2
    checkpoints.clear()
    assert not checkpoints.directory.exists()
    with pytest.raises(UserError, match="sae.checkpoint_minutes is -1.0"):
        replace(SETTINGS["topk"], checkpoint_minutes=-1.0)
