"""Steering against plain hooks, one direction and prompt at a time; intervals and p-values against loops."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.make_directions import push_along

from emocircuits.artifacts.direction import Direction
from emocircuits.errors import Failure, UserError
from emocircuits.experiments import resumed
from emocircuits.experiments.coherence import CoherenceSettings, coherence
from emocircuits.experiments.steered import steered_metric
from emocircuits.experiments.steering import BehaviourPrompts, DoseSettings, dose_response, rank_p_value
from emocircuits.interventions.steer import steer
from emocircuits.models import FAMILIES, load_model
from emocircuits.models.tiny import write_tiny_model


def metric(logits):
    return logits[:, -1, [5, 6]].logsumexp(-1) - logits[:, -1, [7, 8, 9]].logsumexp(-1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(str(write_tiny_model("llama", tmp_path_factory.mktemp("llama"))))


def prompts(model, count=6):
    source = np.random.default_rng(0)
    return tuple(
        tuple(source.integers(3, model.d_vocab, length).tolist())
        for length in source.choice([7, 7, 9], count)
    )


def directions(model, n_random=20):
    source = np.random.default_rng(1)
    unit = [
        vector / np.linalg.norm(vector)
        for vector in source.standard_normal((n_random + 3, model.d_model)).astype(np.float32)
    ]
    kinds = ["emotion", "emotion", "content"] + ["random"] * n_random
    names = ["desperate", "calm", "rain"] + [f"random {number}" for number in range(n_random)]
    site = model.sites[1]
    return tuple(
        Direction(name, kind, site, vector, 2.0)
        for name, kind, vector in zip(names, kinds, unit, strict=True)
    )


@pytest.mark.parametrize("family", FAMILIES.names())
def test_steered_metric_equals_the_steer_context(family, tmp_path):
    model = load_model(str(write_tiny_model(family, tmp_path)), checks=False)
    chosen, push_norm = prompts(model, 3), 1.7
    pushes = np.stack(
        [push_norm * direction.vector for direction in directions(model, 0)[:2]]
        + [np.zeros(model.d_model, np.float32)]
    )
    for site in (model.sites[0], model.sites[-1]):
        found = steered_metric(model, chosen, pushes, metric, site=site, batch_tokens=20)
        for row, direction in enumerate(directions(model, 0)[:2]):
            for column, prompt in enumerate(chosen):
                with torch.no_grad(), steer(model.bridge, push_along(site, direction.vector, 1.0, push_norm)):
                    expected = float(metric(model.bridge(torch.tensor([prompt])))[0])
                assert found[row, column] == pytest.approx(expected, abs=2e-5 * max(1, abs(expected)))
        plain = [float(metric(model.bridge(torch.tensor([prompt])))[0]) for prompt in chosen]
        np.testing.assert_allclose(found[-1], plain, atol=1e-5 * max(1, np.abs(plain).max()))


def run(model, **changes):
    settings = DoseSettings(strengths=(-0.5, -0.25, 0.0, 0.25, 0.5), control_strengths=(-0.5, 0.5))
    return dose_response(
        model,
        [BehaviourPrompts("cheating", prompts(model), metric)],
        directions(model),
        replace(settings, **changes),
    )


def test_tables_hold_what_was_measured(model):
    found = run(model)
    table = found.table
    assert len(table) == 2 * (2 * 5 + 21 * 3)
    values = found.values["cheating"]
    for _, line in table.iterrows():
        cell = values[found.directions.index(line["direction"]), found.strengths.index(line["strength"])]
        cell = cell if line["metric"] == "logit_diff" else torch.sigmoid(torch.from_numpy(cell)).numpy()
        assert line["value"] == pytest.approx(cell.mean())
        assert cell.min() - 1e-9 <= line["ci_low"] <= line["value"] <= line["ci_high"] <= cell.max() + 1e-9
        assert line["n"] == len(prompts(model))
    zero = table[table["strength"] == 0]
    assert zero.groupby("metric")["value"].nunique().tolist() == [1, 1]


def test_slopes_and_p_values_equal_loops(model):
    found = run(model)
    values = found.values["cheating"]
    shared = [found.strengths.index(strength) for strength in (-0.5, 0.0, 0.5)]
    slopes = [np.polyfit([-0.5, 0.0, 0.5], row[shared].mean(axis=1), 1)[0] for row in values]
    table = found.slopes[found.slopes["metric"] == "logit_diff"]
    np.testing.assert_allclose(table["slope"], slopes, rtol=1e-9, atol=1e-9)
    null = [
        abs(slope)
        for slope, direction in zip(slopes, directions(model), strict=True)
        if direction.kind == "random"
    ]
    for line, slope in zip(table.itertuples(), slopes, strict=True):
        if line.kind == "random":
            assert np.isnan(line.p_value)
        else:
            assert line.p_value == (1 + sum(other >= abs(slope) for other in null)) / 21
            assert line.ci_low <= line.slope <= line.ci_high


def test_batch_size_changes_nothing(model):
    few, many = run(model, batch_tokens=80), run(model, batch_tokens=4000)
    np.testing.assert_allclose(few.values["cheating"], many.values["cheating"], atol=1e-5)


def test_scaling_a_direction_changes_nothing_and_negating_flips(model):
    pair = [directions(model)[0]]
    scaled = [replace(pair[0], vector=5 * pair[0].vector)]
    flipped = [replace(pair[0], vector=-pair[0].vector)]
    settings = DoseSettings(strengths=(-0.5, 0.0, 0.5))
    behaviour = [BehaviourPrompts("cheating", prompts(model), metric)]
    a, b, c = (
        dose_response(model, behaviour, chosen, settings).values["cheating"]
        for chosen in (pair, scaled, flipped)
    )
    np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(a, c[:, ::-1], atol=1e-5)


def test_the_model_is_left_as_it_was(model):
    tokens = torch.tensor([prompts(model)[0]])
    before = model.bridge(tokens)
    run(model)
    assert torch.equal(model.bridge(tokens), before)


def test_rank_p_value_is_never_zero():
    assert rank_p_value(10.0, np.zeros(20)) == 1 / 21
    assert rank_p_value(0.0, np.ones(20)) == 1.0


def test_coherence_equals_cross_entropy(model):
    texts, chosen = prompts(model), directions(model)[:2]
    table = coherence(model, texts, chosen, CoherenceSettings(strengths=(0.0, 0.4), batch_tokens=16))
    for line in table.itertuples():
        vector = next(direction.vector for direction in chosen if direction.name == line.direction)
        nats, count = 0.0, 0
        for text in texts:
            tokens = torch.tensor([text])
            with torch.no_grad(), steer(model.bridge, push_along(model.sites[1], vector, line.strength, 2.0)):
                logits = model.bridge(tokens)
            nats += float(torch.nn.functional.cross_entropy(logits[0, :-1], tokens[0, 1:], reduction="sum"))
            count += len(text) - 1
        assert line.nats_per_token == pytest.approx(nats / count, rel=1e-5)
        assert line.perplexity == pytest.approx(np.exp(nats / count), rel=1e-4)


def test_bad_input(model):
    with pytest.raises(UserError, match="no prompts"):
        steered_metric(model, [], np.zeros((1, model.d_model), np.float32), metric, site=model.sites[1])
    with pytest.raises(UserError, match="0 directions"):
        dose_response(model, [BehaviourPrompts("b", prompts(model), metric)], [])
    with pytest.raises(UserError, match="1 shared strengths"):
        run(model, control_strengths=(0.3,))


def test_a_push_that_does_nothing_is_a_failure(model, monkeypatch):
    real = resumed.resume

    def unpushed(bridge, tokens, site, stream, **options):
        return real(bridge, tokens, site, resumed.stream_at(bridge, tokens, site), **options)

    monkeypatch.setattr(resumed, "resume", unpushed)
    with pytest.raises(Failure, match="changed nothing"):
        run(model)
