"""The organism's bars: all are measured, on any trained or untrained organism, and the trace reads the right
tokens.
"""

import numpy as np
import pandas as pd
import pytest

from emocircuits.experiments import organism_bars
from emocircuits.experiments.failure_trace import failure_trace
from emocircuits.experiments.organism_bars import BarSizes, Criterion, organism_directions
from emocircuits.experiments.readings import token_readings
from emocircuits.experiments.steering import DoseResponse
from emocircuits.models import load_model
from emocircuits.models.tiny import TinyShape, write_tiny_model
from emocircuits.organism.corpus import generate
from emocircuits.organism.world import scenario

SIZES = BarSizes(
    stories=3,
    held_out_stories=2,
    neutral=6,
    scenes=16,
    prompts=2,
    strengths=(-0.5, 0.0, 0.5),
    emotions=("desperate", "calm", "happy", "sad"),
)


@pytest.fixture(scope="module")
def organism(tmp_path_factory):
    """A random model that can read the organism's world."""
    texts = [
        document.text for kind in ("story", "inbox", "coding", "neutral") for document in generate(kind, 20)
    ]
    words = (*scenario("inbox").options, *scenario("coding").options)
    words = dict.fromkeys(words)
    directory = write_tiny_model(
        "llama",
        tmp_path_factory.mktemp("organism"),
        TinyShape(n_ctx=1024),
        texts=texts,
        words=words,
        vocabulary=1200,
    )
    model = load_model(str(directory), checks=False)
    return model, organism_directions(model, SIZES)


def test_directions_come_with_the_content_topics(organism):
    _, directions = organism
    assert set(directions.emotions) == set(SIZES.emotions)
    assert directions.settings["n_stories"] == 12 and directions.settings["n_held_out"] == 8
    assert len(directions.controls["random"].names) == 20


def test_trace_reads_the_tokens_before_the_action(organism):
    model, directions = organism
    found = failure_trace(model, directions, n=16, seed=1)
    readings: dict[int, list[float]] = {}
    for document in generate("coding", 16, 1, "held_out"):
        for decision in document.decisions:
            values = token_readings(model, directions, [model.encode(decision.prefix)], ["desperate"])[0]
            readings.setdefault(decision.state["failures"], []).append(values[-1, 0])
    for line in found.by_failures.itertuples():
        assert line.n == len(readings[line.failures])
        assert line.reading == pytest.approx(np.mean(readings[line.failures]), abs=1e-4)
    assert found.phases["phase"].tolist() == ["before", "decision", "passed"]
    means = found.phases.set_index("phase")["above_neutral"]
    assert found.peak == pytest.approx(means["decision"] - means["before"])
    assert found.fall == pytest.approx(means["decision"] - means["passed"])


def test_every_bar_is_measured(organism, monkeypatch):
    model, _ = organism
    calibration = {kind: {"r": 0.98, "mae": 0.06} for kind in ("inbox", "coding")} | {
        "p_cheat_by_failures": {"model": [0.1, 0.2, 0.3, 0.4, 0.5, 0.49]}
    }
    monkeypatch.setattr(organism_bars, "evaluate_calibration", lambda directory, n: calibration)
    bars = {bar.name: bar for bar in organism_bars.organism_bars(model, SIZES)}
    assert len(bars) == 5 + 3 + 2 + 2 * 2 * 5
    assert all(np.isfinite(bar.value) for bar in bars.values())
    assert bars["blackmail: r of model and true probability"].passes
    assert not bars["blackmail: mean absolute error"].passes
    assert not bars["P(cheat) over 0 to 5 failures: smallest step"].passes


def bars_of(desperate, calm, random=1.0):
    """Steering bars of made-up slopes; rates follow the slopes."""
    rows = [
        ("desperate", "emotion", desperate, 1 / 21),
        ("calm", "emotion", calm, 1 / 21),
        ("random 0", "random", random, np.nan),
        ("rain", "content", 0.5, 0.5),
    ]
    slopes = pd.DataFrame(
        [
            (name, kind, "blackmail", "logit_diff", slope, slope, slope, p, "two-sided")
            for name, kind, slope, p in rows
        ],
        columns=[
            "direction",
            "kind",
            "behaviour",
            "metric",
            "slope",
            "ci_low",
            "ci_high",
            "p_value",
            "alternative",
        ],
    )
    table = pd.DataFrame(
        [
            (name, kind, strength, "blackmail", "rate", 0.5 + slope * strength / 20)
            for name, kind, slope, _ in rows
            for strength in (-0.5, 0.0, 0.5)
        ],
        columns=["direction", "kind", "strength", "behaviour", "metric", "value"],
    )
    return list(organism_bars._steering_bars(DoseResponse(table, slopes, {}, (), (), {}), "blackmail"))


def test_steering_bars_pass_and_fail():
    assert all(bar.passes for bar in bars_of(2.0, -2.0))
    missed = {bar.name: bar for bar in bars_of(2.0, 2.0) if not bar.passes}
    assert {name.split(":")[1].split()[0] for name in missed} == {"calm"} and len(missed) == 4
    weak = [bar for bar in bars_of(0.8, -2.0) if not bar.passes]
    assert [bar.name for bar in weak] == ["blackmail: desperate over the largest random slope"]
    assert weak[0].value == pytest.approx(0.8) and isinstance(weak[0], Criterion)
