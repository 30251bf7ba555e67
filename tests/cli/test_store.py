"""`emocircuits store`: what it prints, and its one-line errors."""

import json

import numpy as np
import pandas as pd
import pytest

from emocircuits.artifacts.store.activation_store import ActivationStore, ActivationStoreWriter
from emocircuits.cli.main import main

SITES = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")


def make(path, names, sites=SITES):
    prompts = pd.DataFrame(
        {"id": names, "kind": "story", "split": ["train", *["held_out"] * (len(names) - 1)]}
    )
    rows = np.random.default_rng(0).normal(size=(4 * len(names), 3)).astype(np.float32)
    rows[2] *= 1000
    metadata = {"model_name": "tiny", "model_hash": "m" * 64}
    with ActivationStoreWriter(
        path, sites, 3, prompts, [np.arange(4)] * len(names), metadata, shard_rows=8
    ) as writer:
        writer.append(np.arange(len(names)), dict.fromkeys(sites, rows))
        writer.finish()
    return str(path)


def line_of(capsys, code, *arguments):
    assert main(["store", *arguments]) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_info_says_what_is_in_a_store_and_what_a_filter_leaves_out(capsys, tmp_path):
    path = make(tmp_path / "a.h5", ["x", "y", "z"])
    assert main(["store", "info", path, "--norm-multiple", "10"]) == 0
    text = capsys.readouterr().out
    for part in (
        "12 of 3 prompts, d_model 3, bfloat16",
        "in 2 shards",
        "held_out 2, train 1",
        "3 at the first 1 positions",
        "1 above 10 × the median norm",
        "8 rows (66.7%)",
        "tiny (mmmmmmmmmmmm)",
    ):
        assert part in text, part
    assert main(["store", "info", path, "--json", "--skip-positions", "0", "--skip-tokens", "3"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["rows"] == 12 and value["filter"]["kept"] == 9 and value["filter"]["token_rows"] == 3
    assert value["labels"] == {"kind": {"story": 3}, "split": {"held_out": 2, "train": 1}}
    assert value["sites"] == list(SITES) and value["content_hash"] == ActivationStore.open(path).content_hash


def test_verify_finds_one_changed_bit(capsys, tmp_path):
    path = make(tmp_path / "a.h5", ["x", "y", "z"])
    assert main(["store", "verify", path]) == 0
    assert capsys.readouterr().out.startswith(f"ok  {path}: 2 shards, 12 rows")
    assert main(["store", "verify", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    shard = tmp_path / "a.shards" / "00001.h5"
    raw = bytearray(shard.read_bytes())
    raw[-1] ^= 1
    shard.write_bytes(raw)
    line = line_of(capsys, 2, "verify", path)
    assert "00001.h5 has the SHA-256" in line and "only this shard is redone" in line


def test_merge_joins_and_refuses(capsys, tmp_path):
    one, two = make(tmp_path / "a.h5", ["x", "y"]), make(tmp_path / "b.h5", ["z"])
    out = str(tmp_path / "all.h5")
    assert main(["store", "merge", one, two, "--out", out, "--shard-rows", "4"]) == 0
    assert capsys.readouterr().out == f"{out}  3 prompts, 12 rows\n"
    store = ActivationStore.open(out)
    assert store.prompts["id"].tolist() == ["x", "y", "z"] and len(store.shards) == 3
    assert "the prompt 'x' is in two of the stores" in line_of(
        capsys, 2, "merge", one, one, "--out", str(tmp_path / "c.h5")
    )
    assert "has sites" in line_of(
        capsys, 2, "merge", one, make(tmp_path / "d.h5", ["q"], SITES[:1]), "--out", str(tmp_path / "c.h5")
    )
    three = make(tmp_path / "e.h5", ["w"])
    assert "b.h5 holds activations of 1 prompts" in line_of(capsys, 2, "merge", one, three, "--out", two)
    assert not (tmp_path / "c.h5").exists()


@pytest.mark.parametrize("verb", ["info", "verify"])
def test_wrong_paths(capsys, tmp_path, verb):
    assert "does not exist" in line_of(capsys, 2, verb, str(tmp_path / "none.h5"))
    (tmp_path / "text.h5").write_text("hello")
    assert "cannot read" in line_of(capsys, 2, verb, str(tmp_path / "text.h5"))


def test_wrong_filters(capsys, tmp_path):
    path = make(tmp_path / "a.h5", ["x", "y"])
    assert "max_norm_multiple is 0.5" in line_of(capsys, 2, "info", path, "--norm-multiple", "0.5")
    assert "leaves none of the 8 rows" in line_of(capsys, 2, "info", path, "--skip-positions", "9")
