"""Files of texts that people labelled: what is read, what is left out, and what is refused in one line."""

import json

import pytest

from emocircuits.directions.human_labels import (
    WORDS_OF,
    HumanText,
    emotion_of,
    labelled_set,
    read_human_texts,
)
from emocircuits.errors import UserError
from emocircuits.organism.world import lexicon

LABELS = "anger\nfear\njoy\nneutral\n"


def tsv(tmp_path, lines, labels=LABELS):
    path = tmp_path / "some.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if labels is not None:
        (tmp_path / "labels.txt").write_text(labels, encoding="utf-8")
    return path


def test_the_form_of_goemotions(tmp_path):
    path = tsv(tmp_path, ["I won\u2028!  \t2\tid1", "", 'a "quote\t0,1\tid2', "the bus\t3", "no\t0,0"])
    assert read_human_texts(path) == [
        HumanText("some/1", "I won\u2028!", ("joy",)),
        HumanText("some/3", 'a "quote', ("anger", "fear")),
        HumanText("some/4", "the bus", ("neutral",)),
        HumanText("some/5", "no", ("anger",)),
    ]
    (tmp_path / "labels.txt").rename(tmp_path / "emotions.txt")
    assert read_human_texts(path)[0].labels == ("joy",)


def test_jsonl_with_one_emotion_or_several(tmp_path):
    rows = [
        {"text": "I won", "emotion": "Joy "},
        {"text": "both", "emotions": ["anger", "fear"], "id": "b", "rater": 3},
        {"text": "the bus", "emotion": ""},
    ]
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert read_human_texts(path) == [
        HumanText("some/1", "I won", ("joy",)),
        HumanText("b", "both", ("anger", "fear")),
        HumanText("some/3", "the bus", ("neutral",)),
    ]


def test_a_label_stands_for_the_first_of_its_words_that_has_a_direction():
    assert emotion_of("fear", ("scared", "afraid")) == "afraid"
    assert emotion_of("fear", ("terrified", "scared")) == "scared"
    assert emotion_of("remorse", ("regretful",)) == "regretful"
    assert emotion_of("afraid", ("afraid",)) == "afraid" and emotion_of("admiration", ("proud",)) is None
    words = [word for words in WORDS_OF.values() for word in words]
    assert len(words) == len(set(words)) and set(words) <= set(lexicon().emotions)


def texts_of(**counts):
    return [HumanText(f"{label}{i}", "x", (label,)) for label, n in counts.items() for i in range(n)]


def test_only_texts_of_one_emotion_with_enough_of_them_are_compared():
    texts = texts_of(fear=4, afraid=1, neutral=3, joy=6, anger=4, admiration=2)
    texts += [HumanText("two", "x", ("fear", "joy")), HumanText("with", "x", ("fear", "neutral"))]
    found = labelled_set(texts[::-1], ("happy", "calm", "angry", "afraid"), least=5)
    assert found.emotions == ("happy", "afraid") and found.sources == (("joy",), ("afraid", "fear"))
    assert found.labels.tolist() == [0] * 6 + [1] * 5
    assert [text.labels[0] for text in found.texts] == ["joy"] * 6 + ["afraid"] + ["fear"] * 4
    assert found.left_out == {
        "fewer than 5: angry": 4,
        "neutral": 3,
        "no direction: admiration": 2,
        "several labels": 2,
    }
    assert sum(found.left_out.values()) + len(found.texts) == len(texts)


@pytest.mark.parametrize(
    "lines, labels, said",
    [
        (["a\t0"], None, "no labels.txt lies beside"),
        (["a\t0", "b\t4"], LABELS, "some.tsv line 2 has the label '4'; expected a number of 0 to 3"),
        (["a\t-1"], LABELS, "has the label '-1'"),
        (["a\tjoy"], LABELS, "has the label 'joy'"),
        (["no tab"], LABELS, "some.tsv line 1 is 'no tab'; expected a text, a tab"),
        (["\t1"], LABELS, "some.tsv line 1 is"),
        (["", ""], LABELS, "holds no texts"),
    ],
)
def test_a_wrong_tsv_is_refused_in_one_line(tmp_path, lines, labels, said):
    with pytest.raises(UserError) as error:
        read_human_texts(tsv(tmp_path, lines, labels))
    assert said in str(error.value) and "\n" not in str(error.value) and error.value.expected


@pytest.mark.parametrize(
    "row, said",
    [
        ({"emotion": "joy"}, "some.jsonl line 1: field 'text' is None; expected a text"),
        ({"text": "a"}, "field 'emotion' is None; expected a name"),
        ({"text": "a", "emotions": [1]}, "field 'emotion' is [1]"),
        ({"text": "a", "emotions": []}, "label text without emotion 'neutral'"),
    ],
)
def test_a_wrong_jsonl_is_refused_in_one_line(tmp_path, row, said):
    path = tmp_path / "some.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(UserError, match="line 1") as error:
        read_human_texts(path)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_other_files_are_refused(tmp_path):
    for name, said in (("a.csv", "no file of human text that is known"), ("a.tsv", "does not exist")):
        with pytest.raises(UserError, match=said):
            read_human_texts(tmp_path / name)


def test_nothing_in_common_and_too_few_texts_say_what_would_do():
    with pytest.raises(UserError) as error:
        labelled_set(texts_of(fear=30, neutral=2), ("calm", "happy"))
    assert "(labels: fear, neutral)" in str(error.value) and "one of calm, happy" in str(error.value)
    with pytest.raises(UserError) as error:
        labelled_set(texts_of(fear=30, joy=19), ("afraid", "happy"))
    assert "1 emotions have 20 texts of that one label: afraid 30, happy 19" in str(error.value)
    assert "--least" in str(error.value) and "\n" not in str(error.value)
