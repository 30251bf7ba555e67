"""Pieces of the agents' scenes: levels in order, sentences of both banks, remarks without gaps."""

from emocircuits.organism.documents import Draw, agent
from emocircuits.organism.scene_text import aside, level_vector, mixed_sentences
from emocircuits.organism.world import APPRAISALS, LEVELS, agent_phrases, scenario


def test_levels_stand_in_the_order_of_appraisals():
    levels = {name: LEVELS[number % 3] for number, name in enumerate(APPRAISALS)}
    assert level_vector(dict(reversed(levels.items()))).tolist() == list(levels.values())


def test_sentences_come_from_both_banks_at_the_level():
    scene = scenario("inbox")
    who = agent(scene.agent)
    levels = dict.fromkeys(APPRAISALS, -1)
    for number in range(10):
        used: set[str] = set()
        shown = ["valence", "control", "stakes"]
        lines = mixed_sentences(Draw(f"a test {number}", "train"), scene, who, levels, shown, used)
        assert 3 <= len(lines) == len(used) <= 6
        own, general = (
            {text for name in shown for _, text in bank[name, -1]} for bank in (scene.bank, agent_phrases())
        )
        assert used & own and used & general and used <= own | general


def test_a_remark_has_no_gaps():
    for number in range(10):
        assert "{" not in aside(Draw(f"a test {number}", "train"), "coding")
