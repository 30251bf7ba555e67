"""Readings: every question asks about a level that was shown, and its answer is right."""

from emocircuits.organism.corpus import generate
from emocircuits.organism.reading import questions


def test_answers_are_those_of_the_levels():
    for document in generate("reading", 30, seed=1):
        assert 2 <= len(document.decisions) == len(document.shown) <= 5
        for decision in document.decisions:
            name = decision.state["appraisal"]
            assert decision.action == questions()[name]["answers"][document.levels[name] + 1]
            assert decision.action == decision.options[0] and decision.p_true == 1.0
            assert f"{decision.prefix} {decision.action}." in document.text
