"""Token push or deeper computation: the sentence says what the numbers say."""

import json

import pandas as pd
import pytest
from fixtures.make_run import _trace, make_run

from emocircuits.report.parts.trace import build
from emocircuits.report.pictures import Pictures
from emocircuits.report.run_data import read_run
from emocircuits.studies.trace_verdict import route_verdict


@pytest.fixture()
def table():
    import numpy as np

    return _trace(np.random.default_rng(0))


def of(table: pd.DataFrame, behaviour: str) -> pd.DataFrame:
    return table[table["behaviour"] == behaviour]


def test_deeper_computation_and_token_push_are_told_apart(table):
    deep, push = (
        route_verdict(of(table, "blackmail"), "desperate"),
        route_verdict(of(table, "reward_hacking"), "desperate"),
    )
    assert "works against it (-13%)" in deep and "attention values (107%): deeper computation" in deep
    assert "90% of it goes directly to the tokens" in push and "mostly a push on the tokens" in push
    assert "beyond all of them" in deep and "3 random directions" in deep and "3 content directions" in deep


def test_no_effect_is_not_split(table):
    rows = of(table, "blackmail").copy()
    rows.loc[(rows["direction"] == "desperate") & (rows["part"] == "whole"), ["ci_low", "ci_high"]] = (
        -1.0,
        1.0,
    )
    assert "there is no effect to split" in route_verdict(rows, "desperate")


def test_controls_that_do_as_much_are_named(table):
    rows = of(table, "blackmail").copy()
    rows.loc[(rows["direction"] == "random 1") & (rows["part"] == "whole"), "amount"] = 9.0
    assert "at most 9.00" in route_verdict(rows, "desperate") and "not beyond all of them" in route_verdict(
        rows, "desperate"
    )
    assert route_verdict(rows, "happy") == "happy was not traced."


def test_the_part_shows_paths_and_what_circuits_share(tmp_path):
    run = read_run(make_run(tmp_path))
    pair = {"first": "blackmail", "second": "reward_hacking", "shared": 7, "jaccard": 0.4}
    rest = {"chance_jaccard": 0.01, "p_value": 0.001, "effect_correlation": 0.5, "candidates": 90}
    (tmp_path / "overlap.json").write_text(json.dumps({"pairs": [{**pair, **rest}]}))
    path = ["blackmail", "a → b", 0.5, 1.2, 0.1]
    heads = ["behaviour", "path", "amount", "share_of_source", "share_of_change"]
    pd.DataFrame([path], columns=heads).to_csv(tmp_path / "paths.csv", index=False)
    text = build(run, Pictures(tmp_path))
    assert "blackmail / reward hacking" in text and "Strongest paths" in text and "a → b" in text
    for name in ("overlap.json", "paths.csv"):
        (tmp_path / name).unlink()
    text = build(run, Pictures(tmp_path))
    assert "in common</h3>" not in text and "Strongest paths" not in text
    (tmp_path / "trace.csv").unlink()
    assert "no <code>trace.csv</code>" in build(run, Pictures(tmp_path))
