"""The table of labels has one row per text and refuses ids that occur twice."""

import pytest

from emocircuits.activations.prompts import LabelledText, label_table
from emocircuits.errors import UserError


def test_every_label_but_the_text_is_a_column():
    texts = [
        LabelledText("a", "He ran.", "sad", "park", named=True),
        LabelledText("b", "A cup.", kind="neutral"),
    ]
    table = label_table(texts)
    assert table["id"].tolist() == ["a", "b"] and "text" not in table
    for name in table.columns:
        assert table[name].tolist() == [getattr(text, name) for text in texts]


def test_ids_that_occur_twice_and_no_texts_are_refused():
    with pytest.raises(UserError, match="'a' occurs twice"):
        label_table([LabelledText("a", "One."), LabelledText("a", "Two.")])
    with pytest.raises(UserError, match="no texts"):
        label_table([])


@pytest.mark.parametrize("field", ["id", "emotion", "topic", "text"])
@pytest.mark.parametrize(("bad", "what"), [("a\x00b", "NUL"), ("a\ud800b", "half of a surrogate pair")])
def test_characters_that_no_file_holds_are_named(field, bad, what):
    values = {"id": "x", "text": "She ran home", field: bad}
    if field == "text" and what == "NUL":
        assert LabelledText(**values).text == bad  # a text is kept as JSON, which has an escape for it
        return
    with pytest.raises(UserError, match=f"the {field} of the text .* holds .*{what}"):
        LabelledText(**values)
