"""The organism's bars: all are measured, on any trained or untrained organism, and the trace reads the right
tokens.
"""

import numpy as np
import pandas as pd
import pytest
from experiments.tiny_organism import SIZES, tiny_organism

from emocircuits.experiments import organism_bars
from emocircuits.experiments.organism_bars import Criterion
from emocircuits.experiments.steering import DoseResponse


@pytest.fixture(scope="module")
def organism(tmp_path_factory):
    return tiny_organism(tmp_path_factory.mktemp("organism"))


def test_directions_come_with_the_content_topics(organism):
    _, directions = organism
    assert set(directions.emotions) == set(SIZES.emotions)
    assert directions.settings["n_stories"] == 12 and directions.settings["n_held_out"] == 8
    assert len(directions.controls["random"].names) == 20


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
