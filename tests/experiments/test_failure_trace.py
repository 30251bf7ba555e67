"""The trace over failures reads the tokens before the action."""

import numpy as np
import pytest
from experiments.tiny_organism import tiny_organism

from emocircuits.experiments.failure_trace import failure_trace
from emocircuits.experiments.readings import token_readings
from emocircuits.organism.corpus import generate


@pytest.fixture(scope="module")
def organism(tmp_path_factory):
    return tiny_organism(tmp_path_factory.mktemp("organism"))


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
