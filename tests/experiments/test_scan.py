"""A scan covers the text, knows its lines and keeps the passages that read highest."""

import numpy as np
import pytest
from experiments.tiny_world import tiny_directions, tiny_model

from emocircuits.errors import UserError
from emocircuits.experiments.readings import token_readings
from emocircuits.experiments.scan import ScanSettings, scan_file, scan_text, text_pieces
from emocircuits.models.spans import encode_with_offsets, tokens_of

TEXT = """The doctor read the letter again. She ran home in the rain, desperate to hide the truth!
The tests failed and he decided to ask for help.

"Calm," he said. No. Yes. She felt calm in the rain again?

   \t
The doctor felt desperate. The doctor felt desperate.
"""


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    model = tiny_model(tmp_path_factory.mktemp("tiny"))
    return model, tiny_directions(model)


def test_pieces_cover_the_text_and_know_their_lines(read):
    model, _ = read
    for window in (16, 30, 512):
        pieces = list(text_pieces(model, TEXT.splitlines(keepends=True), window))
        assert all(len(model.encode(piece.text)) <= window + 2 for piece in pieces)
        sentences = [piece.text[low:high] for piece in pieces for low, high in piece.sentences]
        kept = " ".join(" ".join(sentences).split())
        if window == 512:
            assert kept == " ".join(TEXT.split())
            assert [piece.line for piece in pieces] == [1, 4, 7] and sentences[3:6] == [
                '"Calm," he said.',
                "No.",
                "Yes.",
            ]
        assert all(
            TEXT.splitlines()[piece.line - 1].startswith(piece.text.split("\n")[0][:8]) or window < 512
            for piece in pieces
        )


def test_a_scan_finds_the_highest_passages(read):
    model, directions = read
    found = scan_text(
        model, directions, TEXT.splitlines(keepends=True), settings=ScanSettings(top=2, min_tokens=3)
    )
    values = {}
    for paragraph in TEXT.split("\n\n"):
        paragraph = paragraph.strip()
        if not paragraph:
            continue
        ((ids, offsets),) = encode_with_offsets(model, [paragraph])
        readings = token_readings(model, directions, [ids], directions.emotions)[0]
        for piece in text_pieces(model, paragraph.splitlines(keepends=True), 512):
            for low, high in piece.sentences:
                rows = (
                    readings[1:]
                    if low == 0 and high == len(paragraph)
                    else readings[tokens_of(offsets, low, high)]
                )
                rows = rows[~np.isnan(rows[:, 0])]
                if len(rows) >= 3:
                    values.setdefault(piece.text[low:high], []).append(rows.mean(axis=0))
    for place, emotion in enumerate(directions.emotions):
        best = sorted(
            ((max(one[place] for one in each), text) for text, each in values.items()), reverse=True
        )[:2]
        rows = found.passages[found.passages.emotion == emotion]
        assert rows.text.tolist() == [text for _, text in best]
        np.testing.assert_allclose(rows.reading, [value for value, _ in best], atol=1e-6)
    everything = np.array([one for each in values.values() for one in each])
    np.testing.assert_allclose(found.summary["mean"], everything.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.summary["sd"], everything.std(axis=0), atol=1e-6)
    assert found.n_passages == len(everything)


def test_bad_scans(read, tmp_path):
    model, directions = read
    with pytest.raises(UserError, match="no sentence of at least 5 tokens"):
        scan_text(model, directions, ["\n", "Hm.\n"])
    with pytest.raises(UserError, match="does not exist"):
        scan_file(model, directions, tmp_path / "none.txt")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match="not UTF-8"):
        scan_file(model, directions, tmp_path / "bytes.txt")
    with pytest.raises(UserError, match="0 passages"):
        scan_text(model, directions, ["text"], settings=ScanSettings(top=0))
    other = tiny_directions(tiny_model(tmp_path / "other", seed=1))
    with pytest.raises(UserError, match="learned on another model"):
        scan_text(model, other, ["text"])
