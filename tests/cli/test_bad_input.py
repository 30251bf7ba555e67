"""Every mistake gets one line, the right exit code, and leaves nothing half-written."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from emocircuits.cli.main import main

DEBUG = str(Path(__file__).resolve().parents[2] / "analyses/recipes/debug.toml")


def fails(capsys, code, *arguments):
    """Runs a command that must fail with this code and one line on stderr; returns the line."""
    assert main([*arguments, "--quiet"]) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("emocircuits: "), lines
    return lines[0]


@pytest.fixture
def planted(tmp_path):
    from emocircuits.models.planted.model import write_planted_model

    return write_planted_model(tmp_path / "planted")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("sae.kk=3", "did you mean 'sae.k'"),
        ("sae.k=many", "sae.k is 'many'; expected int"),
        ("sae.k=-3", "sae.k is -3; expected at least 1"),
        ("nonsense", "expected key=value"),
        ('behaviours=["blackmale"]', "did you mean 'blackmail'"),
        ("emotion=desprate", "did you mean 'desperate'"),
        ("collect.material=organsim", "unknown collect.material 'organsim'"),
    ],
)
def test_recipe_mistakes(capsys, tmp_path, override, expected):
    assert expected in fails(capsys, 2, "run", DEBUG, "--out", str(tmp_path / "run"), "--set", override)


def test_unknown_recipe_and_stage(capsys, tmp_path):
    assert (
        "unknown recipe 'organsm'; expected a TOML file or the name of an embedded "
        "recipe; did you mean 'organism'?"
    ) in fails(capsys, 2, "run", "organsm")
    assert "did you mean 'match'" in fails(
        capsys, 2, "run", DEBUG, "--out", str(tmp_path / "run"), "--from", "mtach"
    )
    broken = tmp_path / "broken.toml"
    broken.write_text("a = [")
    assert "is not TOML" in fails(capsys, 2, "run", str(broken))


def test_model_mistakes(capsys, tmp_path, planted):
    out = str(tmp_path / "run")
    assert "does not exist" in fails(
        capsys, 2, "run", DEBUG, "--model", str(tmp_path / "nowhere"), "--out", out
    )
    (planted / "model.safetensors").unlink()
    assert "has no weights" in fails(capsys, 2, "run", DEBUG, "--model", str(planted), "--out", out)
    assert not Path(out).exists() or not any(path.suffix in (".h5", ".json") for path in Path(out).rglob("*"))


def test_nan_weights_name_the_tensor(capsys, tmp_path, planted):
    from safetensors.torch import load_file, save_file

    tensors = load_file(planted / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(tensors, planted / "model.safetensors", metadata={"format": "pt"})
    line = fails(capsys, 2, "run", DEBUG, "--model", str(planted), "--out", str(tmp_path / "run"))
    assert "model.layers.1.mlp.up_proj.weight" in line and "NaN" in line


def test_own_code_needs_permission(capsys, tmp_path, planted):
    config = json.loads((planted / "config.json").read_text())
    (planted / "config.json").write_text(
        json.dumps({**config, "auto_map": {"AutoModelForCausalLM": "evil.Model"}})
    )
    assert "--trust-remote-code" in fails(
        capsys, 2, "run", DEBUG, "--model", str(planted), "--out", str(tmp_path / "run")
    )


def test_a_behaviour_whose_words_are_no_tokens_of_the_model(capsys, tmp_path):
    line = fails(capsys, 2, "run", DEBUG, "--out", str(tmp_path / "run"), "--set", 'behaviours=["blackmail"]')
    assert "'blackmail'" in line and "one token" in line


def test_directory_of_something_else(capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "is not empty" in fails(capsys, 2, "run", DEBUG, "--out", str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt"]
    assert "is a file" in fails(capsys, 2, "run", DEBUG, "--out", str(tmp_path / "notes.txt"))


def test_directory_of_another_models_run(capsys, tmp_path, debug_run, planted):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(debug_run / "manifest.json", run)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["model"]["content_hash"] = "0" * 64
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert "holds a run of the model 'planted'" in fails(
        capsys, 2, "run", DEBUG, "--model", str(planted), "--out", str(run)
    )


@pytest.mark.parametrize("spoil", ["truncated", "foreign"])
def test_a_broken_store_is_named(capsys, tmp_path, debug_run, spoil):
    from emocircuits.artifacts.store.activation_store import ActivationStore
    from emocircuits.errors import UserError

    path = tmp_path / "activations.h5"
    if spoil == "truncated":
        shutil.copytree(debug_run / "activations.shards", tmp_path / "activations.shards")
        path.write_bytes((debug_run / "activations.h5").read_bytes()[:3000])
    else:
        with h5py.File(path, "w") as file:
            file["x"] = np.zeros(3)
    with pytest.raises(UserError, match="activations.h5"):
        ActivationStore.open(path)


def test_stage_on_a_directory_without_a_run(capsys, tmp_path):
    assert "holds no run" in fails(capsys, 2, "stage", "match", str(tmp_path))


def test_a_stage_whose_inputs_are_missing(capsys, tmp_path, debug_run):
    run = tmp_path / "run"
    shutil.copytree(debug_run, run)
    (run / "directions.h5").unlink()
    assert "needs stage 'directions'" in fails(capsys, 2, "stage", "match", str(run))


def test_two_processes_in_one_directory(capsys, tmp_path):
    from emocircuits.runs.execute import locked

    with locked(tmp_path / "run"):
        assert "another process" in fails(capsys, 2, "run", DEBUG, "--out", str(tmp_path / "run"))


def test_a_full_disk_is_a_failure_that_keeps_finished_stages(capsys, tmp_path, debug_run, monkeypatch):
    import emocircuits.io.atomic as atomic

    run = tmp_path / "run"
    shutil.copytree(debug_run, run)
    before = (run / "manifest.json").read_bytes()
    replace = atomic.os.replace

    def full(source, target):
        if str(target).endswith("matches.h5"):
            raise OSError(28, "No space left on device", str(target))
        return replace(source, target)

    monkeypatch.setattr(atomic.os, "replace", full)
    line = fails(capsys, 1, "run", DEBUG, "--out", str(run), "--from", "match")
    assert "No space left on device" in line
    monkeypatch.undo()
    assert not list(run.rglob("*.tmp"))
    kept = json.loads((run / "manifest.json").read_text())["stages"]
    assert {"plan", "collect", "directions", "sae"} <= set(kept)
    assert json.loads(before)["stages"]["sae"] == kept["sae"]


def test_ctrl_c_is_one_line_and_leaves_a_resumable_run(capsys, tmp_path, monkeypatch):
    from emocircuits.stages import collect

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(collect, "collect_activations", interrupted)
    line = fails(capsys, 130, "run", DEBUG, "--out", str(tmp_path / "run"))
    assert "interrupted" in line and "resumes" in line
    assert set(json.loads((tmp_path / "run/manifest.json").read_text())["stages"]) == {"plan"}
