"""The exact posterior of a story's emotion against brute force, and that nothing reads better than it."""

import numpy as np
import pytest

from emocircuits.errors import UserError
from emocircuits.experiments.emotion_limit import emotion_limits, story_of
from emocircuits.organism.corpus import make_document
from emocircuits.organism.emotion_posterior import emotion_log_posterior
from emocircuits.organism.world import lexicon

EMOTIONS = ("afraid", "calm", "desperate", "happy", "proud", "sad")


def stories(split, count, seed=3):
    return [
        make_document("story", place * count + number, seed=seed, split=split, named=False, emotion=emotion)
        for place, emotion in enumerate(EMOTIONS)
        for number in range(count)
    ]


def test_limits_are_ordered():
    """Knowing the hidden levels helps; a straight line through the shown ones reads less than the
    posterior.
    """
    fit, held = stories("train", 60), stories("held_out", 40)
    found = emotion_limits(fit, held, EMOTIONS)
    assert found.latent.mean > found.bayes.mean > found.linear.mean > 0.7
    assert (
        found.accuracy[0] > 2 / len(EMOTIONS)
        and found.bayes.mean_low < found.bayes.mean < found.bayes.mean_high
    )
    guess = emotion_log_posterior(held)[:, [lexicon().index(emotion) for emotion in EMOTIONS]].argmax(axis=1)
    labels = np.repeat(np.arange(len(EMOTIONS)), 40)
    assert found.accuracy[0] == pytest.approx((guess == labels).mean())


def test_stories_of_a_run_are_found_by_their_id():
    story = make_document("story", 7, seed=10_000, split="held_out", named=False, emotion="calm")
    assert story_of(f"calm/{story.id}") == story
    for text_id in ("calm/dialogue/train/1/2", "story/train/1/2", "planted/3"):
        with pytest.raises(UserError, match="is not of a story of the organism"):
            story_of(text_id)
