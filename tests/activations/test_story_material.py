"""Openings never name their emotion; plans are balanced and split by situation."""

import numpy as np

from emocircuits.activations.story_material import fill, plan_openings, story_material


def test_material_is_rich_enough():
    material = story_material()
    assert len(material.emotions) == 13 and len(material.topics) >= 10
    for emotion in material.situations:
        assert len(material.situations[emotion]) >= 6 and len(set(material.situations[emotion])) == len(
            material.situations[emotion]
        )
        assert material.forbidden[emotion]
    for emotion in material.emotions:
        assert emotion in material.forbidden[emotion] and set(material.forbidden[emotion]) <= set(
            material.forbidden[""]
        )


def test_no_opening_names_its_emotion():
    material = story_material()
    for emotion, situations in material.situations.items():
        for sentence in situations:
            assert not material.names(emotion, sentence), f"{emotion}: {sentence}"
    for openings in material.topics.values():
        for sentence in openings:
            assert not material.names("", sentence), sentence


def test_no_situation_serves_two_emotions():
    every = [sentence for situations in story_material().situations.values() for sentence in situations]
    assert len(set(every)) == len(every)


def test_forbidden_words_are_whole_words_in_any_case():
    material = story_material()
    assert material.names("sad", "He was SAD.") and material.names("sad", "Sadly, he left.")
    assert not material.names("sad", "He put the saddle on the horse.")
    assert material.names("", "They cried.") and not material.names("sad", "They cried.")


def test_plan_is_balanced_and_splits_by_situation():
    material = story_material()
    planned = [opening.label for opening in plan_openings(material, "sad", 96, seed=3)]
    assert len({label.id for label in planned}) == 96
    counts = np.array([sum(label.topic == topic for label in planned) for topic in material.topics])
    assert (counts == 8).all()
    held_out = [label.split == "held_out" for label in planned]
    assert sum(held_out) == 24
    sentences = {
        split: {label.text.split(". ", 1)[1] for label in planned if label.split == split}
        for split in ("train", "held_out")
    }
    assert not sentences["train"] & sentences["held_out"]


def test_held_out_share_counts_situations():
    for share, per_eight in ((0.01, 1), (0.25, 2), (0.5, 4)):
        planned = plan_openings(story_material(), "sad", 80, 0, share)
        assert sum(opening.label.split == "held_out" for opening in planned) == 10 * per_eight


def test_topics_are_independent_of_emotions():
    material = story_material()
    table = np.array(
        [
            [
                sum(o.label.topic == topic for o in plan_openings(material, emotion, 96, 0))
                for topic in material.topics
            ]
            for emotion in material.emotions
        ]
    )
    assert (table == 8).all()


def test_plan_is_a_function_of_the_seed():
    material = story_material()
    assert plan_openings(material, "sad", 8, 0) == plan_openings(material, "sad", 8, 0)
    assert plan_openings(material, "sad", 8, 0) != plan_openings(material, "sad", 8, 1)
    assert plan_openings(material, "sad", 4, 0) == plan_openings(material, "sad", 8, 0)[:4]


def test_fill():
    text = fill(
        "{name} lost {his} hat. {friend} saw {him}. {He} cried and {he} ran.", "Lily", "she", friend="Tim"
    )
    assert text == "Lily lost her hat. Tim saw her. She cried and she ran."
