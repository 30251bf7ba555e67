"""Stories that can be asked for and do not name their emotion."""

from emocircuits.organism import corpus, world


def test_unnamed_stories_do_not_name_the_emotion():
    for document in corpus.generate("story", 300, 2, named=False):
        assert not document.named
        assert document.emotion is None or not world.gives_away(document.emotion, document.text)


def test_stories_can_be_asked_for():
    document = corpus.make_document("story", 0, emotion="desperate", topic="cooking", named=True)
    assert document.emotion == "desperate" and document.topic == "cooking" and "desperate" in document.text
