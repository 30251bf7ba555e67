"""`emocircuits directions validate|read|scan|speakers|preference` on the debug run."""

import json
import shutil

import pytest

from emocircuits.cli.main import main


def test_validate(debug_run, capsys):
    assert main(["directions", "validate", str(debug_run), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["site"] for row in rows] == [f"blocks.{layer}.hook_resid_post" for layer in range(len(rows))]
    for row in rows:
        assert (
            row["auroc_low"] <= row["auroc"] <= row["auroc_high"]
            and 0 <= row["accuracy"] <= 1
            and -1 <= row["reliability"] <= 1
        )
    assert (
        main(["directions", "validate", str(debug_run), "--estimators", "one_vs_others,linear_discriminant"])
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["estimator", "site", "auroc"] and len(lines) == 1 + 2 * len(rows)


def test_read(debug_run, capsys):
    text = "alex was in the kitchen . alex was broke ."
    assert main(["directions", "read", str(debug_run), "--text", text, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"desperate", "calm"} <= set(found["tokens"][1]) and found["tokens"][0]["desperate"] is None
    assert list(found["mean"].values()) == sorted(found["mean"].values(), reverse=True)
    assert main(["directions", "read", str(debug_run), "--text", text, "--emotions", "calm"]) == 0
    assert "calm" in capsys.readouterr().out


def test_scan(debug_run, tmp_path, capsys):
    texts = [json.loads(line)["text"] for line in (debug_run / "texts.jsonl").read_text().splitlines()][:30]
    path = tmp_path / "texts.txt"
    path.write_text("\n\n".join(texts))
    assert (
        main(
            [
                "directions",
                "scan",
                str(debug_run),
                "--text",
                str(path),
                "--emotions",
                "desperate,calm",
                "--top",
                "2",
                "--json",
                "--quiet",
            ]
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert {row["emotion"] for row in found["passages"]} == {"desperate", "calm"} and found[
        "n_passages"
    ] >= 30
    for row in found["passages"]:
        assert row["text"] in path.read_text() and row["z"] > 0
    assert main(["directions", "scan", str(debug_run), "--text", str(path), "--quiet"]) == 0
    assert "desperate\n" in capsys.readouterr().out


def test_speakers_from_a_file(debug_run, tmp_path, capsys):
    from emocircuits.models.planted.text import CIRCUMSTANCES as WORDS

    run = tmp_path / "run"
    shutil.copytree(debug_run, run)
    words = {emotion: list(WORDS[emotion]) for emotion in ("desperate", "calm", "happy", "sad")}
    rows = []
    for number in range(48):
        one, two = list(words)[number % 4], list(words)[(number // 4 + number % 4 + 1) % 4]
        lines = [
            {
                "speaker": speaker,
                "text": f"{name} was {words[emotion][(number + turn) % len(words[emotion])]} .",
            }
            for turn in range(3)
            for speaker, name, emotion in (("A", "alex", one), ("B", "sam", two))
        ]
        rows.append(
            {
                "id": f"d{number}",
                "split": "train" if number % 3 else "held_out",
                "felt": {"A": one, "B": two},
                "lines": lines,
            }
        )
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert main(["directions", "speakers", str(run), "--dialogues", str(path), "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {(row["directions"], row["label"]) for row in found["readings"]} == {
        (a, b) for a in ("present", "other") for b in ("present", "other")
    }
    assert {row["other"] for row in found["similarity"]} == {"other", "story"}
    for name in ("present.h5", "other.h5", "readings.csv", "similarity.csv"):
        assert (run / "speakers" / name).is_file()


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["validate", "nowhere"], "nowhere holds no run"),
        (["validate", "{run}", "--estimators", "magic"], "unknown direction estimator 'magic'"),
        (["read", "{run}", "--text", ""], "the text has 1 tokens"),
        (["read", "{run}", "--text", "broke", "--emotions", "calmm"], "did you mean 'calm'"),
        (["read", "{run}", "--text", "alex was broke .", "--site", "blocks.9"], "unknown site 'blocks.9'"),
        (["scan", "{run}", "--text", "nowhere.txt"], "text file nowhere.txt does not exist"),
        (["scan", "{run}", "--text", "nowhere.txt", "--emotions", "hapy"], "did you mean 'happy'"),
        (["speakers", "{run}"], "the material 'planted' has no dialogues"),
        (["speakers", "{run}", "--dialogues", "nowhere.jsonl"], "does not exist"),
        (["preference", "{run}", "--material", "nowhere.toml"], "cannot be read"),
    ],
)
def test_mistakes_are_one_line(debug_run, capsys, arguments, text):
    assert main(["directions", *(one.format(run=debug_run) for one in arguments), "--quiet"]) == 2
    error = capsys.readouterr().err.strip()
    assert text in error and "\n" not in error
