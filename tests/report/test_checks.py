"""The part on how far to trust a circuit shows what `scores.json` holds."""

import re

from fixtures.make_run import make_run

from emocircuits.report.parts.checks import _controls, build
from emocircuits.report.pictures import Pictures
from emocircuits.report.run_data import read_run


def test_the_scores_stand_in_the_tables(tmp_path):
    run = read_run(make_run(tmp_path))
    text = build(run, Pictures(tmp_path))
    assert "0.88 <small>[0.82, 0.93]</small>" in text, "faithfulness with its interval"
    assert "blocks.0.hook_resid_post, blocks.1.hook_resid_post" in text, "where circuits are scored"
    assert text.count("<h3>Controls</h3>") == 1


def test_a_row_per_control(tmp_path):
    scores = read_run(make_run(tmp_path)).scores
    text = _controls({"blackmail": scores["blackmail"]})
    rows = re.findall(r"<td>([^<]*faithfulness)</td>.*?>([\d.]+) <small>", text)
    assert rows == [("magnitude: faithfulness", "0.52"), ("neuron basis: faithfulness", "0.61")]
    assert _controls({}) == ""
