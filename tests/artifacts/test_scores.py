"""Scores come back from their JSON as they were, and what is missing or no number is named."""

import json

import numpy as np
import pytest
from fixtures.make_run import _scores

from emocircuits.artifacts.scores import CircuitScores, ControlScores, CurvePoint, read_scores
from emocircuits.errors import UserError


@pytest.fixture
def document():
    return json.loads(json.dumps(_scores(np.random.default_rng(0))))


def test_scores_come_back(document):
    scores = CircuitScores.from_dict(document)
    assert scores.to_dict() == document and read_scores({"b": document}) == {"b": scores}
    assert isinstance(scores.faithfulness_curve[0], CurvePoint)
    assert isinstance(scores.controls["magnitude"], ControlScores)
    assert scores.faithfulness_ci == (0.82, 0.93) and scores.rates.sides["corrupt"].rate == 0.14


def test_what_was_not_measured_is_left_out(document):
    assert "minimality" not in document and "errors_ablated" not in document["controls"]["neuron_basis"]
    document["faithfulness_curve"][0]["random_mean"] = None
    del document["rates"]["clean"]["true_rate"]
    scores = CircuitScores.from_dict(document)
    assert scores.faithfulness_curve[0].random_mean is None and scores.rates.clean.true_rate is None
    assert "random_mean" not in scores.to_dict()["faithfulness_curve"][0]


def test_a_whole_number_may_stand_for_any_number(document):
    document["completeness"] = 0
    assert CircuitScores.from_dict(document).completeness == 0.0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.pop("cpr"), "an entry is not whole .*'cpr'.*run the stage 'evaluate' again"),
        (lambda d: d["attribution_exact"]["points"][3].pop("node"), "attribution_exact.points is not whole"),
        (lambda d: d.update(nodes="sixty"), "nodes is 'sixty'"),
        (lambda d: d.update(m_full=True), "m_full is True"),
        (lambda d: d["rates"]["clean"].update(rate=[1]), r"rates.clean.rate is \[1\]"),
        (lambda d: d.update(controls=3), "controls is 3"),
        (lambda d: d.update(random_values=0.5), "random_values is 0.5"),
        (lambda d: d.update(stability=None), "stability is None"),
    ],
)
def test_what_is_broken_is_named(document, change, says):
    change(document)
    with pytest.raises(UserError, match=says):
        CircuitScores.from_dict(document)
