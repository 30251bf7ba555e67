"""Corpora for the SAEs: pieces of some length, a tenth held out, and every mistake told."""

import json

import pytest

from emocircuits.activations.corpus import HELD_OUT, PIECE, check_corpus, corpus_texts
from emocircuits.errors import UserError


def test_a_text_file_becomes_pieces_that_hold_all_its_words(tmp_path):
    path = tmp_path / "corpus.txt"
    words = [f"w{number}" for number in range(2000)]
    lines = [" ".join(words[begin : begin + 37]) for begin in range(0, 2000, 37)]
    path.write_text("\n".join(lines))
    pieces = corpus_texts(str(path), 10_000)
    assert " ".join(" ".join(piece.text.split()) for piece in pieces).split() == words
    assert all(len(piece.text.split()) <= PIECE for piece in pieces) and len(pieces) == 18
    assert [piece.split for piece in pieces].count("held_out") == len(pieces) // HELD_OUT
    assert len({piece.id for piece in pieces}) == len(pieces) and {piece.kind for piece in pieces} == {
        "corpus"
    }
    assert sum(len(piece.text.split()) for piece in corpus_texts(str(path), 500)) in range(500, 500 + PIECE)


def test_a_long_line_is_cut(tmp_path):
    path = tmp_path / "corpus.md"
    path.write_text(" ".join(["word"] * 1000))
    assert [len(piece.text.split()) for piece in corpus_texts(str(path), 10_000)] == [PIECE] * 8 + [40]


def test_jsonl_and_built_in_corpora(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": f"line {n}\u2028end"}) + "\n" for n in range(3)))
    assert [piece.text for piece in corpus_texts(str(path), 100)] == [f"line {n}\u2028end" for n in range(3)]
    for name in ("organism", "python"):
        first, again = corpus_texts(name, 400, seed=1), corpus_texts(name, 400, seed=1)
        assert [piece.text for piece in first] == [piece.text for piece in again]
        assert 400 <= sum(len(piece.text.split()) for piece in first) < 400 + PIECE
    assert corpus_texts("organism", 400, seed=2) != corpus_texts("organism", 400, seed=1)


@pytest.mark.parametrize(
    ("name", "contents", "told"),
    [
        ("missing.txt", None, "there is no corpus"),
        ("corpus.pdf", b"x", "is not known"),
        ("empty.txt", b" \n", "is empty"),
        ("latin.txt", "é".encode("latin-1"), "is not UTF-8"),
        ("broken.jsonl", b"{", "line 1: not JSON"),
        ("other.jsonl", b'{"t": 1}\n', "line 1: no field 'text'"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, name, contents, told):
    path = tmp_path / name
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(UserError, match=told):
        corpus_texts(str(path), 100)


def test_nothing_is_fetched_before_the_run(tmp_path):
    check_corpus("datasets:somebody/something")  # only when its turn comes
    with pytest.raises(UserError, match="is not known"):
        check_corpus("wikipedia")
