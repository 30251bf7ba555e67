"""Merged stores hold the rows of their parts; unlike parts are refused."""

import numpy as np
import pandas as pd
import pytest
from artifacts.store_world import META, SITES, plan, rows_of

from emocircuits.artifacts.store.activation_store import ActivationStore, ActivationStoreWriter
from emocircuits.artifacts.store.merge import merge_stores
from emocircuits.errors import UserError

LENGTHS = [5, 3, 8, 2, 6, 4, 1]


def part(path, chosen, *, sites=SITES, dtype="bfloat16", metadata=META, columns=lambda table: table):
    prompts, tokens = plan(LENGTHS)
    values = rows_of(LENGTHS, 4)
    with ActivationStoreWriter(
        path,
        sites,
        4,
        columns(prompts.iloc[list(chosen)]),
        [tokens[i] for i in chosen],
        metadata,
        dtype,
        shard_rows=7,
    ) as writer:
        writer.append(
            np.arange(len(chosen)),
            {site: np.concatenate([values[site][i] for i in chosen]) for site in sites},
        )
        writer.finish()
    return path


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_merged_store_equals_one_that_was_collected_at_once(tmp_path, dtype):
    whole = ActivationStore.open(part(tmp_path / "whole.h5", range(7), dtype=dtype))
    split = {"a": [0, 1], "b": [2], "c": [3, 4, 5, 6]}
    parts = [part(tmp_path / f"{name}.h5", chosen, dtype=dtype) for name, chosen in split.items()]
    merged = merge_stores(parts, tmp_path / "merged.h5", shard_rows=9)
    pd.testing.assert_frame_equal(merged.prompts, whole.prompts)
    for site in SITES:
        np.testing.assert_array_equal(merged.read(site, slice(None)), whole.read(site, slice(None)))
    for name in ("tokens", "positions", "prompt_index"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(whole, name))
    assert merged.metadata == {**META, "merged": [ActivationStore.open(path).content_hash for path in parts]}
    assert merge_stores(parts, tmp_path / "merged.h5", shard_rows=9).content_hash == merged.content_hash


@pytest.mark.parametrize(
    "options, word",
    [
        ({"metadata": {**META, "model_hash": "other"}}, "b.h5 has model other; expected abc as in .*a.h5"),
        ({"sites": SITES[:1]}, "b.h5 has sites blocks.0.hook_resid_post; expected blocks.0"),
        ({"dtype": "float32"}, "b.h5 has dtype float32; expected bfloat16"),
        (
            {"columns": lambda table: table.drop(columns="named")},
            "b.h5 has prompt columns id, emotion, latent",
        ),
        ({}, "the prompt 'p1' is in two of the stores"),
    ],
)
def test_unlike_stores_are_refused_and_nothing_is_written(tmp_path, options, word):
    one, other = part(tmp_path / "a.h5", [0, 1]), part(tmp_path / "b.h5", [1, 2], **options)
    with pytest.raises(UserError, match=word):
        merge_stores([one, other], tmp_path / "merged.h5")
    with pytest.raises(UserError, match="1 store to merge"):
        merge_stores([one], tmp_path / "merged.h5")
    assert not list(tmp_path.glob("merged*"))


def test_a_damaged_part_is_refused(tmp_path):
    one, other = part(tmp_path / "a.h5", [0, 1]), part(tmp_path / "b.h5", [2, 3])
    shard = tmp_path / "b.shards" / "00000.h5"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x55")
    with pytest.raises(UserError, match="b.shards/00000.h5 has the SHA-256"):
        merge_stores([one, other], tmp_path / "merged.h5")
    with pytest.raises(UserError, match="a.h5 holds activations of 2 prompts"):
        merge_stores([one, part(tmp_path / "c.h5", [4])], one)
    assert not list(tmp_path.glob("merged*"))
