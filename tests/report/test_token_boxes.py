"""The example of a circuit token by token."""

from dataclasses import replace

import numpy as np
from fixtures.make_run import make_run

from emocircuits.report.run_data import read_run
from emocircuits.report.token_boxes import token_boxes, token_views


def test_both_prompts_and_the_heads_have_a_view(tmp_path):
    run = read_run(make_run(tmp_path))
    views = token_views(run, "blackmail")
    assert [view.title.split(",")[0] for view in views[:2]] == ["Clean prompt", "Corrupt prompt"]
    assert "a0.h0 40 %, a1.h1 20 %" in views[2].title
    readings = views[0].parts[0][2]["values"]
    assert readings[0] == 0.0 and np.isfinite(readings).all(), "the attention sink has no reading"


def test_ids_of_the_behaviours_differ_and_nothing_is_shown_without_tokens(tmp_path):
    run = read_run(make_run(tmp_path))
    first, second = (token_boxes(run, name)[0] for name in run.circuits)
    assert 'id="tokens-0-0-0"' in first and 'id="tokens-1-0-0"' in second
    assert token_boxes(replace(run, tokens={}), "blackmail") == ("", "")
