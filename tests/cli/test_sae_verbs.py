"""`emocircuits sae eval|compare|sweep` on the debug run; `emocircuits sae RUN` stays the stage."""

import json
import shutil

import pytest

from emocircuits.cli.main import main
from emocircuits.cli.sae import rewrite


def test_verbs_are_told_from_a_run_directory():
    assert rewrite(["sae", "eval", "x"]) == ["sae-eval", "x"] and rewrite(["sae", "runs/x"]) == ["sae", "runs/x"]
    assert rewrite(["sae"]) == ["sae"] and rewrite(["run", "eval"]) == ["run", "eval"]


def test_eval_and_compare(debug_run, capsys):
    assert main(["sae", "eval", str(debug_run), "--json", "--quiet"]) == 0
    rows = json.loads(capsys.readouterr().out)
    for row in rows:
        assert row["tokens"] > 0 and row["counted_tokens"] >= row["tokens"]
        assert 0 <= row["fvu"] < 1 and 0 <= row["pca_fvu"] < 1 and row["kl"] >= 0 and 0 < row["shrinkage"] < 1.5
        assert -1 <= row["decoder_encoder_cosine"] <= 1
    assert main(["sae", "compare", str(debug_run / "saes"), str(debug_run / "saes")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["site", "mean_cosine", "same_fraction", "chance_cosine"] and len(lines) == 1 + len(rows)
    assert all(line.split()[1] == "1" and float(line.split()[3]) < 1 for line in lines[1:])


def test_sweep(debug_run, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(debug_run, run)
    before = sorted(path for path in run.iterdir())
    assert (
        main(
            [
                "sae",
                "sweep",
                str(run),
                "--k",
                "2,6",
                "--architectures",
                "topk,batchtopk",
                "--floors",
                "--training-rows",
                "20000",
                "--json",
                "--quiet",
            ]
        )
        == 0
    )
    rows = json.loads(capsys.readouterr().out)
    assert [(row["architecture"], row["k"]) for row in rows] == [
        ("topk", 2),
        ("topk", 6),
        ("batchtopk", 2),
        ("batchtopk", 6),
    ]
    assert all(row["frozen_fvu"] > row["fvu"] for row in rows)  # the floor is beaten
    assert rows[0]["l0"] <= 2 and rows[1]["fvu"] < rows[0]["fvu"]
    assert sorted(path for path in run.iterdir()) == sorted([*before, run / "sweep"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["eval", "nowhere"], "nowhere holds no run"),
        (["compare", "nowhere", "elsewhere"], "have no SAE of the same site"),
        (["sweep", "{run}", "--k", "two"], "--k two; expected whole numbers"),
        (["sweep", "{run}", "--site", "blocks.99"], "unknown site 'blocks.99'"),
        (["sweep", "{run}", "--k", "100000"], "sae.k is 100000; expected at most d_sae"),
        (["sweep", "{run}", "--architectures", "topp"], "unknown SAE architecture 'topp'; did you mean 'topk'"),
    ],
)
def test_mistakes_are_one_line(debug_run, capsys, arguments, text):
    assert main(["sae", *(one.format(run=debug_run) for one in arguments), "--quiet"]) == 2
    error = capsys.readouterr().err.strip()
    assert text in error and "\n" not in error
