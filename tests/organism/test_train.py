"""A training run that is cut off ends with the same weights."""

import signal
import sys
from pathlib import Path

import pytest
import torch
from fixtures.waits import run_to_end
from safetensors.torch import load_file

from emocircuits.organism import train

SETTINGS = dict(
    d_model=16,
    layers=1,
    heads=2,
    d_mlp=16,
    vocabulary=2048,
    tokenizer_sample=150,
    steps=12,
    warm_up=2,
    chunk=32,
    batch_tokens=512,
    checkpoint_minutes=0.0,
    compiled=False,
)
SCRIPT = f"""
import os, signal, sys
from emocircuits.organism import train

def save_and_die(*arguments, save=train.save_checkpoint):
    save(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "killed":
    train.save_checkpoint = save_and_die
train.train_organism(sys.argv[1], settings=train.TrainingSettings(**{SETTINGS!r}))
"""


class Cut(Exception):
    """The end of a training run before its time."""


def check_equal(whole: Path, resumed: Path) -> None:
    one, two = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_that_is_cut_off_ends_with_the_same_weights(tmp_path, monkeypatch):
    settings, checkpoint = train.TrainingSettings(**SETTINGS), tmp_path / "cut" / "checkpoint.safetensors"
    train.train_organism(tmp_path / "whole", settings=settings)

    def save_and_stop(*arguments, save=train.save_checkpoint):
        save(*arguments)
        raise Cut

    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(train, "save_checkpoint", save_and_stop)
        train.train_organism(tmp_path / "cut", settings=settings)
    assert checkpoint.exists()
    train.train_organism(tmp_path / "cut", settings=settings)
    assert not checkpoint.exists()
    check_equal(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    checkpoint = tmp_path / "killed" / "checkpoint.safetensors"
    for folder, end, code in (("whole", "", 0), ("killed", "killed", -signal.SIGKILL), ("killed", "", 0)):
        done = run_to_end([sys.executable, "-c", SCRIPT, str(tmp_path / folder), end])
        assert done.returncode == code, done.stderr
        assert checkpoint.exists() == (code != 0)
    check_equal(tmp_path / "whole", tmp_path / "killed")
