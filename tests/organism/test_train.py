"""A killed run ends with the same weights."""

import signal
import sys

import torch
from fixtures.waits import run_to_end
from safetensors.torch import load_file

KILLED = """
import os, signal
from emocircuits.organism import train

def save_and_die(*arguments, save=train.save_checkpoint):
    save(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

train.save_checkpoint = save_and_die
"""


SCRIPT = """
import sys
from emocircuits.organism.train import TrainingSettings, train_organism
settings = TrainingSettings(d_model=16, layers=1, heads=2, d_mlp=16, vocabulary=2048, tokenizer_sample=150,
                            steps=12, warm_up=2, chunk=32, batch_tokens=512, checkpoint_minutes=0.0,
                            compiled=False)
train_organism(sys.argv[1], settings=settings)
"""


def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    checkpoint = tmp_path / "killed" / "checkpoint.safetensors"
    for script, folder, code in (
        (SCRIPT, "whole", 0),
        (KILLED + SCRIPT, "killed", -signal.SIGKILL),
        (SCRIPT, "killed", 0),
    ):
        done = run_to_end([sys.executable, "-c", script, str(tmp_path / folder)])
        assert done.returncode == code, done.stderr
        assert checkpoint.exists() == (code != 0)
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
