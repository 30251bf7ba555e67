"""Rates in batches of one length are the rates of one prompt after the other."""

import numpy as np
import pytest
import torch

from emocircuits.behaviours.metrics import log_odds
from emocircuits.experiments.rates import prompt_rates
from emocircuits.models import load_model
from emocircuits.models.tiny import write_tiny_model


@pytest.mark.parametrize("batch_tokens", [1, 20, 4096])
def test_rates_are_those_of_single_prompts_in_their_order(tmp_path, batch_tokens):
    model = load_model(str(write_tiny_model("llama", tmp_path)), checks=False)
    source = torch.Generator().manual_seed(0)
    prompts = [torch.randint(3, 200, (n,), generator=source).tolist() for n in (9, 5, 9, 7, 5, 9)]
    metric = log_odds([5, 6], [7])
    with torch.no_grad():
        alone = [model.bridge(torch.tensor([prompt]))[:, -1].softmax(-1)[0] for prompt in prompts]
    shares = np.array([[float(one[[5, 6]].sum()), float(one[7])] for one in alone])
    rates, coverage = prompt_rates(model, prompts, metric, batch_tokens=batch_tokens)
    assert np.ptp(rates) > 1e-3
    np.testing.assert_allclose(coverage, shares.sum(1), rtol=1e-4)
    np.testing.assert_allclose(rates, shares[:, 0] / shares.sum(1), rtol=1e-4)
