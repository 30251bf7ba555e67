"""The loss equals PyTorch's, batches weigh the right tokens, and a killed run ends with the same weights."""

import signal
import sys

import pytest
import torch
from fixtures.waits import run_to_end
from safetensors.torch import load_file

from emocircuits.errors import UserError
from emocircuits.organism.batches import ACTION_WEIGHT, OTHER_ACTION_WEIGHT, chunk_batches
from emocircuits.organism.linear_loss import linear_cross_entropy
from emocircuits.organism.tokenizer import train_tokenizer

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


def test_linear_loss_equals_cross_entropy():
    hidden = torch.randn(1300, 8, dtype=torch.float64, requires_grad=True)
    readout = torch.randn(30, 8, dtype=torch.float64, requires_grad=True)
    targets, weights = torch.randint(0, 30, (1300,)), torch.rand(1300)
    share = torch.nn.functional.one_hot(targets, 30).double()
    share[[3, 1100]] = 0.0
    share[3, 1], share[3, 2], share[1100, 4], share[1100, 5] = 0.25, 0.75, 0.5, 0.5
    spread = (
        torch.tensor([3, 3, 1100, 1100]),
        torch.tensor([1, 2, 4, 5]),
        torch.tensor([0.25, 0.75, 0.5, 0.5]),
    )
    ours = linear_cross_entropy(hidden, readout, targets, weights, spread, torch.float64)
    theirs = (torch.nn.functional.cross_entropy(hidden @ readout.T, share, reduction="none") * weights).sum()
    assert torch.allclose(ours.double(), theirs, rtol=1e-5)
    for a, b in zip(
        torch.autograd.grad(ours, (hidden, readout)), torch.autograd.grad(theirs, (hidden, readout))
    ):
        assert torch.allclose(a, b, atol=1e-4)


def test_action_tokens_are_the_weighted_ones():
    tokenizer = train_tokenizer(0, sample=300)
    for batch in chunk_batches(tokenizer, 0, 0, size=40, batch_tokens=2048):
        width = batch.ids.shape[1] - 1
        flat = batch.weights[:, 1:].reshape(-1)
        numbers, words, shares = batch.spread
        places = torch.unique(numbers)
        assert torch.all(
            torch.isin(flat[places], torch.tensor([*ACTION_WEIGHT.values(), OTHER_ACTION_WEIGHT]))
        )
        for place in places.tolist():
            mine = numbers == place
            assert abs(shares[mine].sum().item() - 1) < 1e-5
            row, column = divmod(place, width)
            assert batch.ids[row, column + 1].item() in words[mine].tolist()


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


def test_a_foreign_checkpoint_is_refused(tmp_path):
    from emocircuits.organism.train import TrainingSettings, train_organism

    (tmp_path / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    tiny = TrainingSettings(
        d_model=16,
        layers=1,
        heads=2,
        d_mlp=16,
        vocabulary=2048,
        tokenizer_sample=50,
        steps=1,
        chunk=16,
        compiled=False,
    )
    with pytest.raises(UserError, match="cannot be read"):
        train_organism(tmp_path, settings=tiny)
