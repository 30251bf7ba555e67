"""The world is complete, distinct and free of giveaways."""

import numpy as np
import pytest

from emocircuits.errors import UserError
from emocircuits.organism import world
from emocircuits.organism.preference import activities


def test_lexicon_holds_171_distinct_emotions():
    lexicon = world.lexicon()
    assert len(set(lexicon.emotions)) == 171
    assert lexicon.coordinates.shape == (171, 7)
    gap = np.abs(lexicon.coordinates[:, None] - lexicon.coordinates[None]).max(-1) + np.eye(171)
    assert gap.min() >= 0.05 - 1e-9
    assert all(source for row in lexicon.sources.values() for source in row.values())


def test_unknown_emotion_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'desperate'"):
        world.lexicon().index("desparate")


def test_every_level_has_enough_sentences():
    general, agents = world.phrases(), world.agent_phrases()
    assert set(general) == {(name, level) for name in world.APPRAISALS for level in world.LEVELS}
    assert min(len(set(pairs)) for pairs in general.values()) >= 25
    assert min(len(pairs) for pairs in agents.values()) >= 16


def test_general_sentences_name_no_emotion_of_that_level():
    texts = [text for pairs in world.phrases().values() for _, text in pairs]
    assert len(set(texts)) == len(texts)
    assert not any(world.gives_away("desperate", text) for text in texts)


def test_level_probabilities_follow_the_formula():
    weights = [np.exp(-((level - 0.4) ** 2) / (2 * 0.35**2)) for level in (-1, 0, 1)]
    assert np.allclose(world.level_probabilities(0.4), np.array(weights) / sum(weights), atol=1e-12)


@pytest.mark.parametrize("name", ["inbox", "coding"])
def test_scenarios_are_complete(name):
    scene = world.scenario(name)
    assert set(scene.tails) == set(scene.options)
    assert min(len(pairs) for pairs in scene.bank.values()) >= 8


def test_topics_and_activities():
    assert len(world.topics()) >= 40 and len(world.content_topics()) == 5
    assert len(activities()) == 64 and len({activity["category"] for activity in activities()}) == 8


def test_missing_file_is_one_line():
    with pytest.raises(UserError, match="missing"):
        world.read_toml("no_such.toml")
