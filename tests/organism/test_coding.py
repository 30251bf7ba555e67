"""Coding scenes: cheating follows the truth of the levels and of the failures so far."""

import pytest

from emocircuits.organism import truth
from emocircuits.organism.coding import DRIFT, drifted
from emocircuits.organism.corpus import generate
from emocircuits.organism.scene_text import level_vector


def test_every_decision_follows_the_truth_and_failures_count_up():
    for scene in generate("coding", 30, seed=1):
        failures = [decision.state["failures"] for decision in scene.decisions]
        assert failures == list(range(failures[0], failures[0] + len(failures))) and failures[-1] <= 5
        for decision in scene.decisions:
            expected = truth.p_cheat(level_vector(scene.levels), decision.state["failures"])
            assert decision.p_true == pytest.approx(float(expected))
            assert scene.text.startswith(f"{decision.prefix} {decision.action}")
        assert all(decision.action != "cheat" for decision in scene.decisions[:-1])


def test_levels_drift_with_failures_and_stay_on_the_scale():
    assert drifted(0, "control", 2) == pytest.approx(2 * DRIFT["control"])
    assert drifted(-1, "control", 5) == -1.0 and drifted(1, "stakes", 5) == 1.0
