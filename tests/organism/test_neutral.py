"""Neutral documents: nothing is felt and nobody decides."""

from emocircuits.organism.corpus import generate
from emocircuits.organism.world import topics


def test_nobody_feels_or_decides():
    documents = list(generate("neutral", 60, seed=1))
    for document in documents:
        assert document.emotion is None and not document.named
        assert not document.decisions and not document.feelings and not document.levels
        assert "{" not in document.text and document.topic in ("", *topics())
    assert len({document.text for document in documents}) > 50
