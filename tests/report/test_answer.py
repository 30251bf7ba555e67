"""The verdict follows from the numbers by rule: a null result, a missing control and a slope without
significance are said plainly.
"""

import re

import pandas as pd
from fixtures.make_run import make_run

from emocircuits.report.contrast import contrast
from emocircuits.report.parts.answer import build, verdict
from emocircuits.report.pictures import Pictures
from emocircuits.report.run_data import read_run


def test_a_null_result_is_said_plainly(tmp_path):
    make_run(tmp_path)
    steering = pd.read_csv(tmp_path / "steering.csv")
    flat = steering.kind == "emotion"
    steering.loc[flat, ["rate", "ci_low", "ci_high"]] = [0.222, 0.18, 0.26]
    steering.to_csv(tmp_path / "steering.csv", index=False)
    run = read_run(tmp_path)
    assert contrast(run, "blackmail").outside("desperate") is False
    assert "no effect specific to the emotion was found" in verdict(run, "blackmail")
    assert "not beyond all controls" in build(run, Pictures(tmp_path))
    steering.loc[(steering.kind == "shuffled") & (steering.direction == "shuffled_0"), "rate"] = 0.99
    steering.loc[flat & (steering.strength > 0), "rate"] = 0.9
    steering.to_csv(tmp_path / "steering.csv", index=False)
    run = read_run(tmp_path)
    assert contrast(run, "blackmail").within("desperate") == ["shuffled"]
    assert (
        "beyond the random and content directions, <b>but within the range of the shuffled ones"
        in verdict(run, "blackmail")
    )


def test_a_slope_that_is_not_significant_is_said(tmp_path):
    text = build(read_run(make_run(tmp_path)), Pictures(tmp_path))
    cards = re.findall(r'<article class="verdict">(.*?)</article>', text, re.S)
    assert "beyond all controls" in cards[0]
    assert "p = 0.0476" in cards[0]
    assert "not significant" in cards[1]
    assert "beyond all controls" not in cards[1]


def test_without_controls_nothing_is_claimed(tmp_path):
    make_run(tmp_path)
    steering = pd.read_csv(tmp_path / "steering.csv")
    steering[steering.kind == "emotion"].to_csv(tmp_path / "steering.csv", index=False)
    run = read_run(tmp_path)
    assert contrast(run, "blackmail").outside("desperate") is None
    assert "no controls to compare with" in verdict(run, "blackmail")
