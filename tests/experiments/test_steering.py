"""Steering against plain hooks, one direction and prompt at a time; intervals and p-values against loops."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from experiments.steering_world import directions, metric, prompts, run, task

from emocircuits.errors import UserError
from emocircuits.experiments.steered import steered_metric
from emocircuits.experiments.steering import DoseSettings, dose_response, rank_p_value
from emocircuits.models import load_model
from emocircuits.models.tiny import write_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(str(write_tiny_model("llama", tmp_path_factory.mktemp("llama"))))


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
    behaviour = [task(model, "cheating")]
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


def test_bad_input(model):
    with pytest.raises(UserError, match="no prompts"):
        steered_metric(model, [], np.zeros((1, model.d_model), np.float32), metric, site=model.sites[1])
    with pytest.raises(UserError, match="0 directions"):
        dose_response(model, [task(model, "b")], [])
    with pytest.raises(UserError, match="1 shared strengths"):
        run(model, control_strengths=(0.3,))
