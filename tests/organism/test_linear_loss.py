"""The fused loss against cross-entropy."""

import torch

from emocircuits.organism.linear_loss import linear_cross_entropy


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
