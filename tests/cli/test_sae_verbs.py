"""`emocircuits sae train|eval|compare|sweep|register|check` on the debug run."""

import json
import shutil

import pytest

from emocircuits.cli.main import main


def test_eval_and_compare(debug_run, capsys):
    assert main(["sae", "eval", str(debug_run), "--json", "--quiet"]) == 0
    rows = json.loads(capsys.readouterr().out)
    for row in rows:
        assert row["tokens"] > 0 and row["counted_tokens"] >= row["tokens"]
        assert (
            0 <= row["fvu"] < 1 and 0 <= row["pca_fvu"] < 1 and row["kl"] >= 0 and 0 < row["shrinkage"] < 1.5
        )
        assert -1 <= row["decoder_encoder_cosine"] <= 1
    assert main(["sae", "compare", str(debug_run / "saes"), str(debug_run / "saes")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["site", "mean_cosine", "same_fraction", "chance_cosine"] and len(
        lines
    ) == 1 + len(rows)
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
    assert all(0 < row["randomised_fvu"] < 1 for row in rows)
    assert (run / "sweep" / "sweep.csv").is_file() and (
        run / "sweep" / "sae_pareto_resid_post.1.svg"
    ).is_file()
    assert rows[0]["l0"] <= 2 and rows[1]["fvu"] < rows[0]["fvu"]
    assert sorted(path for path in run.iterdir()) == sorted([*before, run / "sweep"])


def test_train_register_check_and_use(debug_run, tmp_path, capsys):
    """From texts to SAEs without a store, into a registry, and from there into a run."""
    run, saes = tmp_path / "run", tmp_path / "saes"
    shutil.copytree(debug_run, run)
    texts = [json.loads(line)["text"] for line in (run / "texts.jsonl").read_text().splitlines()]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    train = [
        "sae",
        "train",
        str(tmp_path / "texts.txt"),
        "--model",
        str(run / "model"),
        "--out",
        str(saes / "mine"),
        "--set",
        "sae.expansion=4",
        "--set",
        "sae.k=4",
        "--set",
        "sae.training_rows=30000",
        "--set",
        "sae.batch_size=256",
    ]
    assert main([*train, "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(path) for path in sorted((saes / "mine").iterdir())]
    name = ["--name", "mine", "--registry", str(saes / "registry.toml"), "--quiet"]
    assert main(["sae", "register", str(run), "--saes", str(saes / "mine"), *name, "--json"]) == 0
    entered = json.loads(capsys.readouterr().out)
    assert main(["sae", "check", str(run), *name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == entered
    use = ["--set", "sae_source.registered=mine", "--set", f"sae_source.registry={saes / 'registry.toml'}"]
    assert main(["stage", "sae", str(run), *use, "--quiet"]) == 0
    for path in (saes / "mine").glob("*/*"):
        assert (run / "saes" / path.relative_to(saes / "mine")).read_bytes() == path.read_bytes()
    weights = next((saes / "mine").glob("*/*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert main(["sae", "check", str(run), *name]) == 2
    assert "is not the file that was registered as mine" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["eval", "nowhere"], "nowhere holds no run"),
        (["compare", "nowhere", "elsewhere"], "have no SAE of the same site"),
        (["sweep", "{run}", "--k", "two"], "--k two; expected whole numbers"),
        (["sweep", "{run}", "--expansions", "2,"], "--expansions 2,; expected whole numbers"),
        (["sweep", "{run}", "--site", "blocks.99"], "unknown site 'blocks.99'"),
        (["sweep", "{run}", "--k", "100000"], "sae.k is 100000; expected at most d_sae"),
        (["train", "nowhere.txt", "--out", "{run}/x"], "there is no file nowhere.txt"),
        (
            ["train", "{run}/texts.jsonl", "--out", "{run}/x", "--sites", "blocks.99"],
            "unknown site 'blocks.99'",
        ),
        (
            ["train", "{run}/manifest.json", "--out", "{run}/x", "--set", "sae.kk=3"],
            "unknown recipe key 'sae.kk'",
        ),
        (["register", "{run}", "--name", "x", "--saes", "nowhere"], "nowhere has no SAE for any of"),
        (
            ["check", "{run}", "--name", "x", "--registry", "nowhere.toml"],
            "there is no registry nowhere.toml",
        ),
        (
            ["sweep", "{run}", "--architectures", "topp"],
            "unknown SAE architecture 'topp'; did you mean 'topk'",
        ),
    ],
)
def test_mistakes_are_one_line(debug_run, capsys, arguments, text):
    assert main(["sae", *(one.format(run=debug_run) for one in arguments), "--quiet"]) == 2
    error = capsys.readouterr().err.strip()
    assert text in error and "\n" not in error
