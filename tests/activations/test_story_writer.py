"""Texts end with a whole sentence."""

import pytest

from emocircuits.activations.story_writer import whole_sentences


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("He sat. He ran", "He sat."),
        ('He sat. "Go!" he said. So', 'He sat. "Go!" he said.'),
        ('He sat. He said, "Go." Then', 'He sat. He said, "Go."'),
        ("He sat. So", "He sat."),
    ],
)
def test_whole_sentences(text, cut):
    assert whole_sentences("He sat.", text) == cut
