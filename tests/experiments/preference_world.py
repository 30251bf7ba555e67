"""A random model that is asked about six activities."""

from experiments.tiny_world import tiny_directions, tiny_model

from emocircuits.experiments.preference import (
    preferences,
)
from emocircuits.experiments.preference_material import (
    PreferenceMaterial,
    read_material,
)


def few(n=6):
    material = read_material()
    return PreferenceMaterial(material.activities[:: 64 // n][:n], material.questions[:3])


def asked_model(directory):
    material = read_material()
    texts = [
        question.format(A=one.text, B=two.text)
        for question, one, two in zip(
            material.questions, material.activities, material.activities[8:], strict=False
        )
    ]
    model = tiny_model(directory, texts=texts, words=("A", "B"))
    directions = tiny_directions(model)
    return model, directions, few(), preferences(model, directions, few())
