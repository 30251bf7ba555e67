"""`emocircuits directions validate --human` and `--norms` on the debug run."""

import json
import shutil

import numpy as np
import pytest

from emocircuits.cli.main import main
from emocircuits.directions.human_scores import read_human_text
from emocircuits.models.planted.text import CIRCUMSTANCES, NAMES, TOPICS


@pytest.fixture(scope="module")
def run(debug_run, tmp_path_factory):
    copy = tmp_path_factory.mktemp("human") / "run"
    shutil.copytree(debug_run, copy)
    return copy


def sentences(n, shuffled=False):
    """Sentences in the words of the planted model, labelled in the words of the first line of each."""
    source = np.random.default_rng(0)
    labels = [label for label in ("desperate", "calm", "joy", "sadness") for _ in range(n)]
    words = {"joy": CIRCUMSTANCES["happy"], "sadness": CIRCUMSTANCES["sad"]} | {
        name: CIRCUMSTANCES[name] for name in ("desperate", "calm")
    }
    rows = [
        {
            "text": f"{source.choice(NAMES)} was in the {source.choice(TOPICS)} . "
            f"{source.choice(NAMES)} was {source.choice(words[label])} .",
            "emotion": label,
        }
        for label in labels
    ]
    if shuffled:
        for row, label in zip(rows, source.permutation(labels), strict=True):
            row["emotion"] = str(label)
    return rows


def written(tmp_path, rows):
    path = tmp_path / "people.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def validated(run, path, capsys, *more):
    arguments = ["directions", "validate", str(run), "--human", str(path), "--json", "--quiet", *more]
    assert main(arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_planted_words_are_told_apart_and_the_document_is_saved(run, tmp_path, capsys):
    rows = [*sentences(24), {"text": "alex was reading .", "emotion": "neutral"}]
    rows.append({"text": "alex was broke .", "emotions": ["desperate", "sadness"]})
    rows.append({"text": "alex was early .", "emotion": "admiration"})
    found = validated(run, written(tmp_path, rows), capsys)
    assert found["source"]["texts"] == 99 and found["source"]["scored"] == 96
    assert found["source"]["left_out"] == {"neutral": 1, "no direction: admiration": 1, "several labels": 1}
    whole = found["scores"][0]
    assert (whole["directions"], whole["texts"], whole["n"]) == ("as they are", "all", 96)
    assert whole["auroc"] > 0.9 and whole["auroc"] > whole["shuffled_max"] and whole["p_value"] < 0.01
    assert whole["auroc_low"] <= whole["auroc"] <= whole["auroc_high"]
    assert {row["site"] for row in found["scores"]} == {row["site"] for row in found["sites"] if row["read"]}
    assert {(row["emotion"], row["labels"], row["n"]) for row in found["emotions"]} == {
        ("desperate", "desperate", 24),
        ("calm", "calm", 24),
        ("happy", "joy", 24),
        ("sad", "sadness", 24),
    }
    saved = read_human_text(run)
    assert saved["schema"] == "emocircuits.human-text" and saved["schema_version"] == 1
    assert {name: saved[name] for name in ("scores", "emotions", "norms")} == {
        name: found[name] for name in ("scores", "emotions", "norms")
    }
    assert saved["provenance"]["inputs"]["model"] and "text" not in saved["scores"][0]["texts"]


def test_shuffled_labels_are_within_chance(run, tmp_path, capsys):
    found = validated(run, written(tmp_path, sentences(24, shuffled=True)), capsys)
    whole = found["scores"][0]
    assert whole["p_value"] > 0.05 and whole["auroc"] < whole["shuffled_max"]


def test_all_sites_and_estimators(run, tmp_path, capsys):
    path = written(tmp_path, sentences(8))
    more = ("--site", "all", "--least", "8", "--estimators", "linear_discriminant,one_vs_others")
    found = validated(run, path, capsys, *more)
    sites = list(dict.fromkeys(row["site"] for row in found["sites"]))
    pairs = {(row["estimator"], row["site"]) for row in found["scores"]}
    assert pairs == {(name, site) for name in ("linear_discriminant", "one_vs_others") for site in sites}
    assert found["settings"]["least"] == 8 and found["settings"]["from_token"] == 1
    later = validated(run, path, capsys, "--least", "8", "--skip", "5")
    assert later["source"]["tokens"] < found["source"]["tokens"]


def test_people_see_the_tables(run, tmp_path, capsys):
    path = written(tmp_path, sentences(20))
    assert main(["directions", "validate", str(run), "--human", str(path), "--quiet"]) == 0
    shown = capsys.readouterr().out
    for text in (
        "people.jsonl: 80 of 80 texts",
        "shuffled_p95",
        "as they are",
        "neutral components out",
        "joy",
    ):
        assert text in shown
    assert main(["directions", "validate", str(run), "--norms"]) == 0
    assert "valence" in capsys.readouterr().out
    assert main(["directions", "validate", str(run), "--norms", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"sites", "norms"} and {row["n"] for row in found["norms"]} == {2}
    assert all(row["r"] is None for row in found["norms"])


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["--human", "nowhere.jsonl"], "human text file nowhere.jsonl does not exist"),
        (["--human", "nowhere.tsv"], "human text file nowhere.tsv does not exist"),
        (["--human", "{few}"], "0 emotions have 20 texts of that one label: calm 4"),
        (["--human", "{other}"], "no text has a single label that has a direction"),
        (["--human", "{few}", "--least", "1"], "human.least is 1"),
        (["--human", "{few}", "--least", "4", "--site", "blocks.9"], "unknown site 'blocks.9'"),
        (["--human", "{few}", "--least", "4", "--skip", "400"], "16 of 16 texts have no token that counts"),
        (["--site", "all"], "it goes with texts of people: --human FILE"),
        (["--least", "5"], "it goes with texts of people: --human FILE"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, capsys, arguments, text):
    few, other = tmp_path / "few", tmp_path / "other"
    for folder, rows in ((few, sentences(4)), (other, [{"text": "a", "emotion": "awe"}])):
        folder.mkdir()
        written(folder, rows)
    paths = {"few": few / "people.jsonl", "other": other / "people.jsonl"}
    words = [one.format(**paths) for one in arguments]
    assert main(["directions", "validate", str(run), *words, "--quiet"]) == 2
    error = capsys.readouterr().err.strip()
    assert text in error and "\n" not in error
