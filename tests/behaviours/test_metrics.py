"""Log-odds against the formula, its gradient, and what it must not see."""

import pytest
import torch

from emocircuits.behaviours.metrics import log_odds
from emocircuits.errors import UserError


def test_metric_is_the_log_ratio_of_probabilities():
    torch.manual_seed(1)
    logits = torch.randn(3, 5, 11, dtype=torch.float64)
    metric = log_odds((2, 7), (1, 9, 4))
    p = logits[:, -1].softmax(-1)
    target, honest = p[:, [2, 7]].sum(-1), p[:, [1, 9, 4]].sum(-1)
    torch.testing.assert_close(metric(logits), (target / honest).log(), rtol=0, atol=1e-12)
    torch.testing.assert_close(metric.rate(logits), target / (target + honest), rtol=0, atol=1e-12)


def test_metric_of_one_word_each_is_the_logit_difference():
    logits = torch.zeros(1, 2, 4)
    logits[0, -1] = torch.tensor([0.0, 3.0, 1.0, 9.0])
    assert log_odds((1,), (2,))(logits).item() == 2.0


def test_metric_gradient_is_the_difference_of_softmaxes():
    logits = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    log_odds((0, 3), (5, 2))(logits).sum().backward()
    expected = torch.zeros_like(logits)
    expected[:, -1, [0, 3]] = logits[:, -1, [0, 3]].softmax(-1).detach()
    expected[:, -1, [5, 2]] = -logits[:, -1, [5, 2]].softmax(-1).detach()
    torch.testing.assert_close(logits.grad, expected, rtol=0, atol=1e-12)


def test_metric_ignores_other_tokens_and_constants():
    logits = torch.randn(2, 3, 6)
    metric = log_odds((0,), (5, 2))
    other = logits + 4.0
    other[:, -1, 1] += 10
    other[:, :-1] = 0
    torch.testing.assert_close(metric(other), metric(logits))


def test_metric_refuses():
    with pytest.raises(UserError, match="occur twice"):
        log_odds((1, 2), (2, 3))
    with pytest.raises(UserError, match="empty"):
        log_odds((), (2, 3))
    with pytest.raises(UserError, match="cover 4 tokens"):
        log_odds((1,), (9,))(torch.zeros(1, 2, 4))
    with pytest.raises(Exception, match="shape|Float|violates"):
        log_odds((1,), (2,))(torch.zeros(2, 4))
