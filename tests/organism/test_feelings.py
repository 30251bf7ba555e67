"""Named feelings: the posterior of emotions by hand, and the word at the end of the text."""

import numpy as np
import pytest

from emocircuits.organism.bayes import emotion_prior, level_table
from emocircuits.organism.documents import Draw
from emocircuits.organism.feelings import emotion_posterior, name_feeling
from emocircuits.organism.world import APPRAISALS, level_probabilities, lexicon


def test_the_posterior_is_bayes_rule_written_out():
    found = emotion_posterior((("valence", -1), ("arousal", 1)), (("control", -0.5),))
    weights = []
    for number in range(len(lexicon().emotions)):
        table = level_table()[number]
        weight = emotion_prior()[number]
        weight *= table[APPRAISALS.index("valence"), 0] * table[APPRAISALS.index("arousal"), 2]
        weight *= float(table[APPRAISALS.index("control")] @ level_probabilities(-0.5))
        weights.append(weight)
    np.testing.assert_allclose(list(found.values()), np.array(weights) / sum(weights))
    assert list(found) == list(lexicon().emotions)


def test_the_feeling_is_the_last_word():
    draw = Draw("a test", "train")
    posterior = {"calm": 0.25, "angry": 0.75}
    text, decision = name_feeling(draw, draw.person(), ["It rained."], posterior)
    assert text == f"{decision.prefix} {decision.action}." and text.startswith("It rained. ")
    assert decision.p_true == posterior[decision.action] and decision.target() == pytest.approx(posterior)
