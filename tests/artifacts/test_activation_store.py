"""The activation store: round trips, plain HDF5 reading, interruptions, and wrong input."""

import errno
import hashlib
import json
import os

import h5py
import numpy as np
import pytest
from artifacts.store_world import META, SITES, bf16, plan, rows_of, write
from hypothesis import given, settings
from hypothesis import strategies as st

from emocircuits.artifacts.store.activation_store import ActivationStore, ActivationStoreWriter
from emocircuits.errors import Failure, UserError
from emocircuits.numerics import from_bf16_bits


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=9),
    dtype=st.sampled_from(["bfloat16", "float32"]),
    d_model=st.integers(1, 5),
    seed=st.integers(0, 9),
    shard_rows=st.sampled_from([1, 5, 12, None]),
)
def test_round_trip_in_any_order_of_batches(tmp_path_factory, lengths, dtype, d_model, seed, shard_rows):
    path = tmp_path_factory.mktemp("store") / "activations.h5"
    order = np.array_split(np.random.default_rng(seed).permutation(len(lengths)), min(3, len(lengths)))
    store, values = write(
        path, lengths, d_model, dtype, [list(part) for part in order], shard_rows=shard_rows
    )
    prompts, tokens = plan(lengths)
    assert store.n_rows == sum(lengths) and store.n_prompts == len(lengths) and store.d_model == d_model
    rng = np.random.default_rng(seed)
    some, first = rng.integers(0, store.n_rows, 9), int(rng.integers(0, store.n_rows))
    mask = rng.random(store.n_rows) < 0.5
    for site in SITES:
        whole = np.concatenate(values[site])
        whole = bf16(whole) if dtype == "bfloat16" else whole
        for rows in (
            slice(None),
            slice(first, None, 2),
            slice(first, first + 4),
            slice(-3, None),
            some,
            mask,
        ):
            np.testing.assert_array_equal(store.read(site, rows), whole[rows])
    store.verify()
    assert all(shard.n_rows <= (shard_rows or 65_536) or shard.n_prompts == 1 for shard in store.shards)
    assert sum(shard.n_prompts for shard in store.shards) == len(lengths)
    np.testing.assert_array_equal(store.tokens, np.concatenate(tokens))
    np.testing.assert_array_equal(store.positions, np.concatenate([np.arange(n) for n in lengths]))
    np.testing.assert_array_equal(store.prompt_index, np.repeat(np.arange(len(lengths)), lengths))
    assert (
        store.prompts["id"].tolist() == prompts["id"].tolist()
        and store.prompts["named"].tolist() == prompts["named"].tolist()
    )
    assert store.prompts["emotion"].tolist() == ["joy" if i % 2 else "" for i in range(len(lengths))]
    np.testing.assert_array_equal(store.prompts["latent"], prompts["latent"])
    np.testing.assert_array_equal(store.prompts["n_tokens"], lengths)
    np.testing.assert_array_equal(store.prompts["offset"], np.cumsum([0, *lengths[:-1]]))
    assert store.metadata == META and sorted(os.listdir(path.parent)) == [
        "activations.h5",
        "activations.shards",
    ]


def test_row_reads_masks_selection_and_blocks(tmp_path):
    store, values = write(tmp_path / "a.h5", [3, 5, 2])
    whole = bf16(np.concatenate(values[SITES[1]]))
    np.testing.assert_array_equal(store.read(SITES[1], np.array([1, 4, 9])), whole[[1, 4, 9]])
    chosen = store.select(np.array([True, False, True]), start=1)
    assert chosen.tolist() == [1, 2, 9]
    np.testing.assert_array_equal(store.read(SITES[1], store.positions > 0), whole[store.positions > 0])
    blocks = list(store.blocks(SITES[1], size=4))
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in blocks]), whole)
    np.testing.assert_array_equal(np.concatenate([index for index, _ in blocks]), np.arange(10))
    ((index, rows),) = store.blocks(SITES[1], chosen)
    np.testing.assert_array_equal(rows, whole[index])
    assert "3 prompts, 10 rows × 2 sites" in repr(store)


def test_plain_h5py_reads_the_store_wherever_it_lies(tmp_path, monkeypatch):
    (tmp_path / "made").mkdir()
    _, values = write(tmp_path / "made" / "a.h5", [3, 5, 2], shard_rows=5)
    (tmp_path / "made").rename(tmp_path / "moved")
    monkeypatch.chdir("/")
    with h5py.File(tmp_path / "moved" / "a.h5") as file:
        data = file["activations"][SITES[0]]
        assert data.is_virtual and data.dtype == np.uint16 and data.attrs["encoding-type"] == "bfloat16-bits"
        plain = (data[:].astype(np.uint32) << 16).view(np.float32)
        np.testing.assert_array_equal(plain, bf16(np.concatenate(values[SITES[0]])))
        assert file["prompts/id"].asstr()[:].tolist() == ["p0", "p1", "p2"]
    with h5py.File(tmp_path / "moved" / "a.shards" / "00001.h5") as file:
        data = file["activations"][SITES[1]]
        assert data.chunks is None and data.shape == (5, 4)
    manifest = json.loads((tmp_path / "moved" / "a.shards" / "manifest.json").read_text())
    for shard in manifest["shards"]:
        raw = (tmp_path / "moved" / "a.shards" / shard["file"]).read_bytes()
        assert hashlib.sha256(raw).hexdigest() == shard["sha256"] and len(raw) == shard["n_bytes"]
        place, rows = (
            shard["offsets"][SITES[1]],
            slice(shard["first_row"], shard["first_row"] + shard["n_rows"]),
        )
        bits = np.frombuffer(raw[place : place + shard["n_rows"] * 8], "<u2").astype(np.uint32).reshape(-1, 4)
        np.testing.assert_array_equal(
            (bits << 16).view(np.float32), bf16(np.concatenate(values[SITES[1]])[rows])
        )


def test_content_hash_depends_on_content_alone(tmp_path):
    for name in "abcd":
        (tmp_path / name).mkdir()
    first, values = write(tmp_path / "a" / "s.h5", [3, 5, 2], order=[[0, 1], [2]], shard_rows=5)
    second, _ = write(tmp_path / "b" / "s.h5", [3, 5, 2], order=[[2], [1], [0]], shard_rows=5)
    assert first.content_hash == second.content_hash
    for one, other in zip(first.files, second.files, strict=True):
        assert one.read_bytes() == other.read_bytes()
    values[SITES[0]][1][0, 0] += 1
    assert (
        write(tmp_path / "c" / "s.h5", [3, 5, 2], values=values, shard_rows=5)[0].content_hash
        != first.content_hash
    )


def test_bfloat16_bit_patterns_are_taken_as_they_are(tmp_path):
    values = rows_of([4], 3)
    torch = pytest.importorskip("torch")
    bits = {s: torch.tensor(v[0]).bfloat16().view(torch.uint16).numpy() for s, v in values.items()}
    prompts, tokens = plan([4])
    with ActivationStoreWriter(tmp_path / "a.h5", SITES, 3, prompts, tokens, META) as writer:
        writer.append([0], bits)
        writer.finish()
    np.testing.assert_array_equal(
        ActivationStore.open(tmp_path / "a.h5").read(SITES[0], slice(None)), bf16(values[SITES[0]][0])
    )


def test_a_finished_store_is_left_alone(tmp_path):
    store, _ = write(tmp_path / "a.h5", [3, 2])
    before = [(file.read_bytes(), file.stat().st_mtime_ns) for file in store.files[2:]]
    prompts, tokens = plan([3, 2])
    with ActivationStoreWriter(tmp_path / "a.h5", SITES, 4, prompts, tokens, META) as again:
        assert again.done.all()
        with pytest.raises(UserError, match="prompt 'p1' is in a finished shard"):
            again.append([1], {s: np.zeros((2, 4), np.float32) for s in SITES})
        again.finish()
    assert [(file.read_bytes(), file.stat().st_mtime_ns) for file in store.files[2:]] == before
    assert ActivationStore.open(tmp_path / "a.h5").content_hash == store.content_hash


def test_an_interruption_keeps_finished_shards(tmp_path):
    path, folder = tmp_path / "a.h5", tmp_path / "a.shards"
    values = rows_of([3, 2, 2], 4)
    prompts, tokens = plan([3, 2, 2])
    with (
        pytest.raises(KeyboardInterrupt),
        ActivationStoreWriter(path, SITES, 4, prompts, tokens, META, shard_rows=4) as writer,
    ):
        assert [list(shard) for shard in writer.shards] == [[0], [1, 2]]
        writer.append([0, 1], {s: np.concatenate(values[s][:2]) for s in SITES})
        assert writer.done.tolist() == [True, True, False]
        raise KeyboardInterrupt
    assert sorted(os.listdir(folder)) == ["00000.h5", "manifest.json"]
    with pytest.raises(UserError, match="a.h5 was not finished .1 of 2 shards.; run the collect stage again"):
        ActivationStore.open(path)
    with ActivationStoreWriter(path, SITES, 4, prompts, tokens, META, shard_rows=4) as writer:
        assert writer.done.tolist() == [True, False, False]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_writer_reads_back_what_was_appended_to_any_shard(tmp_path, dtype):
    lengths = [3, 2, 4, 2, 3]
    prompts, tokens = plan(lengths)
    values = rows_of(lengths, 4)
    with ActivationStoreWriter(
        tmp_path / "a.h5", SITES, 4, prompts, tokens, META, dtype, shard_rows=5
    ) as writer:
        for prompt in (
            0,
            1,
            3,
        ):  # the first shard is finished, of the second there is nothing, the third is open
            writer.append([prompt], {site: values[site][prompt] for site in SITES})
        for site, rows in writer.written([3, 0, 3, 1]).items():
            expected = np.concatenate([values[site][prompt] for prompt in (3, 0, 3, 1)])
            assert np.array_equal(
                from_bf16_bits(rows) if dtype == "bfloat16" else rows,
                bf16(expected) if dtype == "bfloat16" else expected,
            )
        with pytest.raises(UserError, match="'p2' has no rows"):
            writer.written([0, 2])


def test_another_plan_is_refused_and_nothing_is_lost_unless_replaced(tmp_path):
    path = tmp_path / "a.h5"
    store, _ = write(path, [3, 2])
    before = [file.read_bytes() for file in store.files]
    prompts, tokens = plan([3, 2])
    other = {**META, "model_name": "big", "model_hash": "other"}
    for arguments in ((SITES, 4, prompts, tokens, other), (SITES[:1], 4, prompts, tokens, META)):
        with pytest.raises(
            UserError, match="a.h5 holds activations of 2 prompts of the model 'tiny'.*choose another path"
        ):
            ActivationStoreWriter(path, *arguments)
    assert [file.read_bytes() for file in store.files] == before
    with ActivationStoreWriter(path, SITES, 4, prompts, tokens, other, replace=True) as writer:
        assert not writer.done.any() and not path.exists()
    (tmp_path / "notes.h5").write_text("mine")
    with pytest.raises(UserError, match="notes.h5 exists and has no .*manifest.json"):
        ActivationStoreWriter(tmp_path / "notes.h5", SITES, 4, prompts, tokens, META)
    assert (tmp_path / "notes.h5").read_text() == "mine" and not (tmp_path / "notes.shards").exists()


def test_a_second_writer_is_refused(tmp_path):
    prompts, tokens = plan([3])
    with ActivationStoreWriter(tmp_path / "a.h5", SITES, 4, prompts, tokens, META):
        for replace in (False, True):
            with pytest.raises(UserError, match="another process is writing"):
                ActivationStoreWriter(tmp_path / "a.h5", SITES, 4, prompts, tokens, META, replace=replace)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3.4e38])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_rows_that_are_not_finite_are_refused_and_not_written(tmp_path, bad, dtype):
    values = rows_of([3], 4)
    values[SITES[1]][0][2, 1] = bad
    prompts, tokens = plan([3])
    with ActivationStoreWriter(tmp_path / "a.h5", SITES, 4, prompts, tokens, META, dtype) as writer:
        if bad == 3.4e38 and dtype == "float32":
            return
        with pytest.raises(
            UserError, match="1 of 3 activation rows at blocks.1.hook_resid_post hold NaN or infinity"
        ):
            writer.append([0], {s: v[0] for s, v in values.items()})
        assert not writer.done.any()


def test_wrong_shapes_dtypes_and_plans(tmp_path):
    prompts, tokens = plan([3, 2])
    path = tmp_path / "a.h5"
    good = rows_of([3, 2], 4)
    with pytest.raises(UserError, match="float16"):
        ActivationStoreWriter(path, SITES, 4, prompts, tokens, META, "float16")
    with pytest.raises(UserError, match="one array per prompt"):
        ActivationStoreWriter(path, SITES, 4, prompts, tokens[:1], META)
    with pytest.raises(UserError, match="unique"):
        ActivationStoreWriter(path, SITES, 4, prompts.assign(id="x"), tokens, META)
    with pytest.raises(UserError, match="no tokens"):
        ActivationStoreWriter(path, SITES, 4, prompts, [tokens[0], tokens[1][:0]], META)
    with ActivationStoreWriter(path, SITES, 4, prompts, tokens, META) as writer:
        with pytest.raises(UserError, match=r"shape \(3, 5\).*\(3, 4\)"):
            writer.append([0], {s: np.zeros((3, 5), np.float32) for s in SITES})
        with pytest.raises(UserError, match="float16 activations"):
            writer.append([0], {s: np.zeros((3, 4), np.float16) for s in SITES})
        with pytest.raises(UserError, match="no activations for the site"):
            writer.append([0], {SITES[0]: good[SITES[0]][0]})
        with pytest.raises(UserError, match="2 of 2 prompts have no activations"):
            writer.finish()


def test_files_that_are_not_a_finished_store(tmp_path):
    store, _ = write(tmp_path / "a.h5", [30] * 40)
    with pytest.raises(UserError, match="does not exist"):
        ActivationStore.open(tmp_path / "none.h5")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:-500])
    with pytest.raises(UserError, match="truncated"):
        ActivationStore.open(tmp_path / "cut.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = [1]
    with pytest.raises(UserError, match="a foreign HDF5 file"):
        ActivationStore.open(tmp_path / "foreign.h5")
    for version, word in ((99, "version 99"), (1, "version 1 .*collect stage again")):
        (tmp_path / "other.h5").write_bytes((tmp_path / "a.h5").read_bytes())
        with h5py.File(tmp_path / "other.h5", "a") as file:
            file.attrs["emocircuits-version"] = version
        with pytest.raises(UserError, match=word):
            ActivationStore.open(tmp_path / "other.h5")
    with pytest.raises(UserError, match="unknown site 'blocks.9"):
        store.read("blocks.9.hook_resid_post", slice(None))
    for rows in ([5000], [-1]):
        with pytest.raises(UserError, match="rows beyond the end"):
            store.read(SITES[0], np.array(rows))
    with pytest.raises(UserError, match="a mask over 3 rows; expected one value for each of the 1200 rows"):
        store.read(SITES[0], np.ones(3, dtype=bool))


def test_missing_truncated_foreign_and_damaged_shards_are_named(tmp_path):
    path, folder = tmp_path / "a.h5", tmp_path / "a.shards"
    store, values = write(path, [30] * 4, shard_rows=60)
    whole, manifest = (folder / "00001.h5").read_bytes(), (folder / "manifest.json").read_text()
    (folder / "00001.h5").write_bytes(whole[:-8])
    with pytest.raises(
        UserError, match=f"00001.h5 is truncated: {len(whole) - 8} bytes; expected {len(whole)} bytes"
    ):
        ActivationStore.open(path)
    (folder / "00001.h5").unlink()
    with pytest.raises(UserError, match="00001.h5 is missing"):
        ActivationStore.open(path)
    (folder / "00001.h5").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match="00001.h5 has the SHA-256 .*expected .*only this shard is redone"):
        ActivationStore.open(path).verify()
    (folder / "manifest.json").write_text(manifest.replace(store.shards[0].sha256, store.shards[1].sha256))
    with pytest.raises(UserError, match="manifest.json does not belong to .*a.h5"):
        ActivationStore.open(path)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        ActivationStore.open(path)
    (folder / "manifest.json").write_text(manifest)
    prompts, tokens = plan([30] * 4)
    with ActivationStoreWriter(path, SITES, 4, prompts, tokens, META, shard_rows=60) as writer:
        assert writer.done.tolist() == [True, True, False, False]  # only this shard is redone
        writer.append([2, 3], {s: np.concatenate(values[s][2:]) for s in SITES})
        writer.finish()
    assert (
        ActivationStore.open(path).content_hash == store.content_hash
        and (folder / "00001.h5").read_bytes() == whole
    )


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite", "fsync"])
def test_a_full_disk_is_one_line_and_finished_shards_stay(tmp_path, monkeypatch, call):
    path, folder = tmp_path / "a.h5", tmp_path / "a.shards"
    values = rows_of([3, 2], 4)
    prompts, tokens = plan([3, 2])
    with ActivationStoreWriter(path, SITES, 4, prompts, tokens, META, shard_rows=3) as writer:
        writer.append([0], {s: values[s][0] for s in SITES})

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, call, full)
        with pytest.raises(
            Failure, match="cannot write .*a.h5: No space left on device; free some space"
        ) as error:
            writer.append([1], {s: values[s][1] for s in SITES})
        assert "\n" not in str(error.value)
    monkeypatch.undo()
    assert sorted(os.listdir(folder)) == ["00000.h5", "manifest.json"]
    with ActivationStoreWriter(path, SITES, 4, prompts, tokens, META, shard_rows=3) as writer:
        assert writer.done.tolist() == [True, False]


def test_wrong_site_in_append_is_refused(tmp_path):
    prompts, tokens = plan([3])
    with ActivationStoreWriter(tmp_path / "a.h5", SITES, 4, prompts, tokens, META) as writer:
        rows = {s: np.zeros((3, 4), np.float32) for s in (*SITES, "blocks.7.hook_resid_post")}
        with pytest.raises(
            UserError, match="activations of the site 'blocks.7.hook_resid_post'; expected the sites of"
        ):
            writer.append([0], rows)
        with pytest.raises(UserError, match="prompt number 1; expected 0 to 0"):
            writer.append([1], rows)
        assert not writer.done.any()
