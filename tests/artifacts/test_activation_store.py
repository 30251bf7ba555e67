"""The activation store: round trips, the shuffled stream, kills, and wrong input."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emocircuits.artifacts.activation_store import ActivationStore, ActivationStoreWriter
from emocircuits.errors import UserError

SITES = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")
META = {"model_name": "tiny", "model_hash": "abc"}


def plan(lengths, seed=0):
    rng = np.random.default_rng(seed)
    tokens = [rng.integers(0, 50, n) for n in lengths]
    prompts = pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(len(lengths))],
            "emotion": ["joy" if i % 2 else None for i in range(len(lengths))],
            "named": [i % 3 == 0 for i in range(len(lengths))],
            "latent": rng.normal(size=len(lengths)),
        }
    )
    return prompts, tokens


def rows_of(lengths, d_model, seed=1):
    rng = np.random.default_rng(seed)
    return {site: [rng.normal(size=(n, d_model)).astype(np.float32) * 30 for n in lengths] for site in SITES}


def write(path, lengths, d_model=4, dtype="bfloat16", order=None, values=None):
    prompts, tokens = plan(lengths)
    values = rows_of(lengths, d_model) if values is None else values
    with ActivationStoreWriter(path, SITES, d_model, prompts, tokens, META, dtype) as writer:
        for chosen in order or [[i] for i in range(len(lengths))]:
            writer.append(chosen, {s: np.concatenate([values[s][i] for i in chosen]) for s in SITES})
        writer.finish()
    return ActivationStore.open(path), values


def bf16(array):
    torch = pytest.importorskip("torch")
    return torch.tensor(array).bfloat16().float().numpy()


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=9),
    dtype=st.sampled_from(["bfloat16", "float32"]),
    d_model=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_round_trip_in_any_order_of_batches(tmp_path_factory, lengths, dtype, d_model, seed):
    path = tmp_path_factory.mktemp("store") / "activations.h5"
    order = np.array_split(np.random.default_rng(seed).permutation(len(lengths)), min(3, len(lengths)))
    store, values = write(path, lengths, d_model, dtype, [list(part) for part in order])
    prompts, tokens = plan(lengths)
    assert store.n_rows == sum(lengths) and store.n_prompts == len(lengths) and store.d_model == d_model
    for site in SITES:
        whole = np.concatenate(values[site])
        np.testing.assert_array_equal(store.read(site, slice(None)), bf16(whole) if dtype == "bfloat16" else whole)
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
    assert store.metadata == META and sorted(os.listdir(path.parent)) == ["activations.h5"]


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
    with h5py.File(tmp_path / "a.h5") as file:
        data = file["activations"][SITES[0]]
        assert data.chunks is None and data.dtype == np.uint16 and data.attrs["encoding-type"] == "bfloat16-bits"


def test_content_hash_depends_on_content_alone(tmp_path):
    first, values = write(tmp_path / "a.h5", [3, 5, 2], order=[[0, 1], [2]])
    second, _ = write(tmp_path / "b.h5", [3, 5, 2], order=[[2], [1], [0]])
    assert first.content_hash == second.content_hash
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    values[SITES[0]][1][0, 0] += 1
    assert write(tmp_path / "c.h5", [3, 5, 2], values=values)[0].content_hash != first.content_hash


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


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(1, 900),
    batch=st.integers(1, 300),
    window=st.sampled_from([64, 256, 300, 1000]),
    seed=st.integers(0, 5),
    filtered=st.booleans(),
)
def test_stream_is_seekable_and_visits_each_row_once_per_epoch(tmp_path_factory, n, batch, window, seed, filtered):
    path = tmp_path_factory.mktemp("stream") / "a.h5"
    values = {s: [np.repeat(np.arange(n, dtype=np.float32)[:, None], 2, axis=1)] for s in SITES}
    store, _ = write(path, [n], 2, "float32", values=values)
    rows = np.arange(0, n, 2) if filtered else None
    expected = np.arange(n) if rows is None else rows
    steps = 2 * len(expected) // batch + 2
    stream = store.shuffled_batches(SITES[0], batch, seed, rows=rows, window=window)
    batches = [next(stream) for _ in range(steps)]
    assert all(b.shape == (batch, 2) and b.dtype == np.float32 for b in batches)
    drawn = np.concatenate(batches)[:, 0].astype(int)
    for epoch in range(2):
        np.testing.assert_array_equal(np.sort(drawn[epoch * len(expected) : (epoch + 1) * len(expected)]), expected)
    for start in {0, 1, steps // 2, steps - 1}:
        again = store.shuffled_batches(SITES[1], batch, seed, start_step=start, rows=rows, window=window)
        np.testing.assert_array_equal(next(again), batches[start])


def test_stream_order_depends_on_seed_and_epoch(tmp_path):
    values = {s: [np.arange(600, dtype=np.float32)[:, None]] for s in SITES}
    store, _ = write(tmp_path / "a.h5", [600], 1, "float32", values=values)
    epochs = [
        next(store.shuffled_batches(SITES[0], 600, seed, start_step=step)).ravel() for seed in (0, 1) for step in (0, 1)
    ]
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert abs(np.corrcoef(epochs[0], np.arange(600))[0, 1]) < 0.2


KILLED = textwrap.dedent("""
    import sys, time
    sys.path.insert(0, sys.argv[2])
    from emocircuits.artifacts import activation_writer
    from test_activation_store import *
    activation_writer.COMMIT_SECONDS = 0.0
    lengths = [5 + i % 7 for i in range(150)]
    prompts, tokens = plan(lengths)
    values = rows_of(lengths, 8)
    with ActivationStoreWriter(sys.argv[1], SITES, 8, prompts, tokens, META) as writer:
        todo = np.flatnonzero(~writer.done)
        print("todo", len(todo), flush=True)
        for i in todo:
            writer.append([i], {s: values[s][i] for s in SITES})
            time.sleep(0.002)
        writer.finish()
    print("finished", flush=True)
""")


def test_sigkill_at_any_moment_ends_in_the_same_bytes(tmp_path):
    lengths = [5 + i % 7 for i in range(150)]
    clean, _ = write(tmp_path / "clean.h5", lengths, 8)
    path = tmp_path / "killed.h5"
    rng, todo = np.random.default_rng(0), []
    for attempt in range(30):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path), os.path.dirname(__file__)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        todo.append(int(process.stdout.readline().split()[1]))
        if attempt < 4:
            time.sleep(rng.uniform(0, 0.15))
            process.send_signal(signal.SIGKILL)
        tail = process.stdout.read()
        process.wait()
        assert not path.exists() or "finished" in tail
        if "finished" in tail:
            break
    assert len(todo) > 2 and todo[0] == 150 and todo[-1] < 150 and todo == sorted(todo, reverse=True)
    assert path.read_bytes() == (tmp_path / "clean.h5").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["clean.h5", "killed.h5"]


def test_kill_between_rename_and_clean_up_counts_as_finished(tmp_path):
    path = tmp_path / "a.h5"
    prompts, tokens = plan([3, 2])
    values = rows_of([3, 2], 4)
    writer = ActivationStoreWriter(path, SITES, 4, prompts, tokens, META)
    writer.append([0, 1], {s: np.concatenate(values[s]) for s in SITES})
    writer.commit()
    progress = (tmp_path / "a.h5.progress.json").read_bytes()
    writer.finish()
    (tmp_path / "a.h5.progress.json").write_bytes(progress)
    with ActivationStoreWriter(path, SITES, 4, prompts, tokens, META) as again:
        assert again.done.all()
        again.finish()
    assert sorted(os.listdir(tmp_path)) == ["a.h5"]


def test_another_plan_starts_over_and_an_error_keeps_the_work(tmp_path):
    path = tmp_path / "a.h5"
    values = rows_of([3, 2], 4)
    prompts, tokens = plan([3, 2])
    with pytest.raises(KeyboardInterrupt), ActivationStoreWriter(path, SITES, 4, prompts, tokens, META) as writer:
        writer.append([1], {s: values[s][1] for s in SITES})
        raise KeyboardInterrupt
    with ActivationStoreWriter(path, SITES, 4, prompts, tokens, META) as writer:
        assert writer.done.tolist() == [False, True]
    with ActivationStoreWriter(path, SITES, 4, prompts, tokens, {**META, "model_hash": "other"}) as writer:
        assert not writer.done.any()


def test_a_second_writer_is_refused(tmp_path):
    prompts, tokens = plan([3])
    with ActivationStoreWriter(tmp_path / "a.h5", SITES, 4, prompts, tokens, META):
        with pytest.raises(UserError, match="another process is writing"):
            ActivationStoreWriter(tmp_path / "a.h5", SITES, 4, prompts, tokens, META)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3.4e38])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_rows_that_are_not_finite_are_refused_and_not_written(tmp_path, bad, dtype):
    values = rows_of([3], 4)
    values[SITES[1]][0][2, 1] = bad
    prompts, tokens = plan([3])
    with ActivationStoreWriter(tmp_path / "a.h5", SITES, 4, prompts, tokens, META, dtype) as writer:
        if bad == 3.4e38 and dtype == "float32":
            return
        with pytest.raises(UserError, match="1 of 3 activation rows at blocks.1.hook_resid_post hold NaN or infinity"):
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
    (tmp_path / "new.h5").write_bytes((tmp_path / "a.h5").read_bytes())
    with h5py.File(tmp_path / "new.h5", "a") as file:
        file.attrs["emocircuits-version"] = 99
    with pytest.raises(UserError, match="version 99"):
        ActivationStore.open(tmp_path / "new.h5")
    with pytest.raises(UserError, match="unknown site 'blocks.9"):
        store.read("blocks.9.hook_resid_post", slice(None))
    with pytest.raises(UserError, match="rows beyond the end"):
        store.read(SITES[0], np.array([5000]))
    prompts, tokens = plan([3])
    ActivationStoreWriter(tmp_path / "half.h5", SITES, 4, prompts, tokens, META).close()
    os.rename(tmp_path / "half.h5.part", tmp_path / "half.h5")
    with pytest.raises(UserError, match="was not finished"):
        ActivationStore.open(tmp_path / "half.h5")


def test_damaged_progress_starts_over(tmp_path):
    prompts, tokens = plan([3])
    ActivationStoreWriter(tmp_path / "a.h5", SITES, 4, prompts, tokens, META).close()
    (tmp_path / "a.h5.progress.json").write_text("{")
    with ActivationStoreWriter(tmp_path / "a.h5", SITES, 4, prompts, tokens, META) as writer:
        assert not writer.done.any()
    assert json.loads((tmp_path / "a.h5.progress.json").read_text())["done"] == []


def test_content_hash_is_plain_sha256_of_plan_and_rows(tmp_path):
    store, values = write(tmp_path / "a.h5", [3, 2], dtype="float32")
    with h5py.File(tmp_path / "a.h5") as file:
        plan_hash = json.loads(file["plan"].asstr()[()])
    digest = hashlib.sha256(plan_hash.encode())
    for site in SITES:
        digest.update(np.concatenate(values[site]).astype("<f4").tobytes())
    assert store.content_hash == digest.hexdigest()
