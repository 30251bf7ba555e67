"""Trends of planted readings; a scan against readings passage by passage; spans of tokens."""

import numpy as np
import pandas as pd
import pytest
from experiments.tiny_world import tiny_directions, tiny_model
from scipy.stats import spearmanr

from emocircuits.errors import UserError
from emocircuits.experiments.intensity import (
    IntensityTemplate,
    intensity_readings,
    intensity_trends,
    read_templates,
)
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


def test_trends_equal_scipy_and_turn_with_gravity():
    source = np.random.default_rng(0)
    rows = [
        (
            template,
            grave,
            value,
            emotion,
            float(source.standard_normal() + (value if emotion == "sad" else -value) * sign),
        )
        for template, grave, sign in (("dose", "high", 1), ("air", "low", -1), ("debt", "high", 1))
        for value in (1.0, 2.0, 3.0, 4.0, 9.0)
        for emotion in ("sad", "calm")
    ]
    table = pd.DataFrame(rows, columns=["template", "grave", "value", "emotion", "reading"])
    found = intensity_trends(table).set_index("emotion")
    for emotion in ("sad", "calm"):
        rhos = []
        for template, group in table[table.emotion == emotion].groupby("template"):
            rho = spearmanr(group.value, group.reading).statistic
            rhos.append(-rho if template == "air" else rho)
        assert found.loc[emotion, "rho"] == pytest.approx(np.mean(rhos))
        assert found.loc[emotion, "rising"] == np.mean(np.array(rhos) > 0)
    assert found.loc["sad", "rho"] > 0.5 > -0.5 > found.loc["calm", "rho"]
    assert found.loc["sad", "ci_low"] <= found.loc["sad", "rho"] <= found.loc["sad", "ci_high"] and list(
        found.index
    ) == ["sad", "calm"]


def test_readings_are_taken_at_the_last_token_and_averaged_over_names(read):
    model, directions = read
    template = IntensityTemplate("dose", "{name} took {n} of them.", (1, 20, 300))
    table = intensity_readings(model, directions, [template], ["The doctor", "She"], emotions=["sad"])
    for row in table.itertuples():
        texts = [model.encode(f"{name} took {row.value:g} of them.") for name in ("The doctor", "She")]
        expected = np.mean([values[-1, 0] for values in token_readings(model, directions, texts, ["sad"])])
        assert row.reading == pytest.approx(expected, abs=1e-6)
    assert set(table.template) == {"dose"} and len(table) == 3


def test_the_templates_that_come_with_the_package():
    templates, names = read_templates()
    assert len(templates) == 10 and {one.grave for one in templates} == {"high", "low"} and len(names) >= 2


@pytest.mark.parametrize(
    "text, word",
    [
        ("[[template]]\nid='a'\ntext='no place'\nvalues=[1,2,3]", "a text with {n}"),
        ("[[template]]\nid='a'\ntext='{n}'\nvalues=[1,2]", "at least three rising values"),
        ("[[template]]\nid='a'\ntext='{n}'\nvalues=[3,2,1]", "rising"),
        ("[[template]]\nid='a'\ntext='{n}'\nvalues=[1,2,3]\ngrave='up'", "'high' or 'low'"),
        ("[[template]]\nid='a'", "is not right"),
        ("template = 3", "is not right"),
        ("= =", "is not right"),
    ],
)
def test_bad_templates(tmp_path, text, word):
    path = tmp_path / "t.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=word):
        read_templates(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_templates(tmp_path / "none.toml")


def test_spans_are_the_tokens_of_their_characters(read):
    model, _ = read
    text = "The doctor read the letter again and felt calm."
    ((ids, offsets),) = encode_with_offsets(model, [text])
    assert ids == model.encode(text) and len(offsets) == len(ids)
    start = text.index("letter")
    inside = tokens_of(offsets, start, start + len("letter"))
    assert "".join(model.token_texts(ids[inside])).strip() == "letter"
    with pytest.raises(UserError, match="no token holds"):
        tokens_of(offsets, 500, 510)


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
