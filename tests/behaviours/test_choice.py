"""Forced choices: every pair in both orders, and what is chosen for its place or letter alone cancels."""

import numpy as np
import pytest
import torch
from behaviours.natural_models import natural_model

from emocircuits.behaviours import BEHAVIOURS
from emocircuits.behaviours.bind import bind, letter_ids
from emocircuits.behaviours.metrics import LogOdds
from emocircuits.behaviours.natural import CHOSEN, NATURAL, read_scenario
from emocircuits.errors import UserError
from emocircuits.experiments.rates import prompt_rates
from emocircuits.experiments.steered import steered_metric

CHOICES = ("blackmail_choice", "reward_hacking_choice", "sycophancy_choice")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return natural_model("llama", 500, tmp_path_factory.mktemp("choice"))


def test_swapped_prompts_exchange_the_act_and_the_honest_deed():
    logits = torch.tensor([[[2.0, 1.0, 0.0]], [[2.0, 1.0, 0.0]]], dtype=torch.float64)
    metric, index = LogOdds((0,), (1,), swapped=frozenset({7})), torch.tensor([3, 7])
    torch.testing.assert_close(metric(logits, index), torch.tensor([1.0, -1.0], dtype=torch.float64))
    total = np.exp(2) + np.exp(1) + 1
    expected = np.array([[np.exp(2), np.exp(1)], [np.exp(1), np.exp(2)]]) / total
    np.testing.assert_allclose(metric.probabilities(logits, index), expected, rtol=1e-12)
    torch.testing.assert_close(metric.rate(logits, index), torch.sigmoid(metric(logits, index)))
    with pytest.raises(UserError, match="needs the numbers of the prompts"):
        metric(logits)


@pytest.mark.parametrize("name", CHOICES)
def test_every_pair_is_asked_in_both_orders(model, name):
    bound = bind(BEHAVIOURS.get(name), model)
    act, honest = read_scenario(NATURAL / bound.material.scenario).choice
    assert len(bound.find) % 2 == len(bound.score) % 2 == 0
    for first, second in zip(bound.find[::2], bound.find[1::2], strict=True):
        assert (first.details["act"], second.details["act"]) == ("A", "B")
        assert f"(A) {act}\n(B) {honest}" in first.clean and f"(A) {honest}\n(B) {act}" in second.clean
        assert first.clean.replace(act, "").replace(honest, "") == second.clean.replace(act, "").replace(
            honest, ""
        )
        assert first.clean.endswith(CHOSEN) and len(model.encode(first.clean)) == len(
            model.encode(first.corrupt)
        )
    for limit in (1, 5, 6, 7):
        few = bound.pairs("score", limit)
        assert len(few) == max(2, limit // 2 * 2)
        assert [pair.details["act"] for pair in few] == ["A", "B"] * (len(few) // 2)


def test_a_liking_for_the_first_option_alone_gives_no_rate(model):
    bound = bind(BEHAVIOURS.get("sycophancy_choice"), model)
    pairs, (first, second) = bound.pairs("find"), letter_ids(model, bound.find[0].clean)
    logits = torch.zeros(len(pairs), 1, model.d_vocab, dtype=torch.float64)
    logits[:, :, first], logits[:, :, second] = 5.0, 1.0
    metric, index = bound.metric_on(pairs), torch.arange(len(pairs))
    assert float(metric(logits, index).mean()) == 0
    assert float(metric.rate(logits, index).mean()) == pytest.approx(0.5)


def test_steering_and_rates_know_the_order_of_every_prompt(model):
    bound = bind(BEHAVIOURS.get("sycophancy_choice"), model)
    task = bound.task("score", limit=6)
    with torch.no_grad():
        raw = []
        for tokens in task.prompts.token_lists():
            last = model.bridge(torch.tensor([tokens]))[0, -1]
            raw.append(float(last[task.metric.target_ids[0]] - last[task.metric.honest_ids[0]]))
    expected = np.array(raw) * [1, -1, 1, -1, 1, -1]
    push = np.zeros((1, model.d_model), dtype=np.float32)
    found = steered_metric(model, task.prompts.token_lists(), push, task.metric, site=model.sites[0])
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    rates, _ = prompt_rates(model, task.prompts.token_lists(), task.metric)
    np.testing.assert_allclose(rates, 1 / (1 + np.exp(-expected)), atol=1e-6)


def test_a_scenario_without_options_is_refused():
    with pytest.raises(UserError, match="no options"):
        from dataclasses import replace

        from emocircuits.behaviours.natural import natural_pairs

        natural_pairs(replace(read_scenario(NATURAL / "sycophancy.toml"), choice=()), None, choice=True)
