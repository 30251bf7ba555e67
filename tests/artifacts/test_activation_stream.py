"""The training stream: a pure function of (seed, step), every row once per epoch, memory that does
not grow.
"""

import tracemalloc
from itertools import islice

import numpy as np
import pytest
from artifacts.store_world import SITES, bf16, rows_of, write
from hypothesis import given, settings
from hypothesis import strategies as st

from emocircuits.artifacts.store.row_selection import RowSelection
from emocircuits.artifacts.store.stream import ActivationStream
from emocircuits.errors import UserError
from emocircuits.numerics import generator


class Numbers:
    """A source whose rows hold their own number."""

    sites, d_model = SITES, 2

    def __init__(self, n_rows):
        self.n_rows, self.most = n_rows, 0

    def read_raw(self, site, rows):
        assert (np.diff(rows) > 0).all()
        self.most = max(self.most, len(rows))
        return np.stack([rows, np.full(len(rows), SITES.index(site))], axis=1).astype(np.float32)


def by_definition(n_rows, seed, window, epoch):
    """The row order of one epoch, straight from the words: chunks in random order, rows shuffled inside
    windows of it.
    """
    chunks = [np.arange(first, min(first + 256, n_rows)) for first in range(0, n_rows, 256)]
    line = np.concatenate(
        [chunks[chunk] for chunk in generator(seed, "chunks", epoch).permutation(len(chunks))]
    )
    parts = [line[first : first + window] for first in range(0, n_rows, window)]
    return np.concatenate(
        [p[generator(seed, "window", epoch, w).permutation(len(p))] for w, p in enumerate(parts)]
    )


@settings(max_examples=40)
@given(
    n=st.integers(1, 1500),
    batch=st.integers(1, 400),
    window=st.sampled_from([1, 64, 256, 300, 1000]),
    seed=st.integers(0, 5),
    chosen=st.sampled_from(["all", "index", "selection"]),
    jumps=st.lists(st.integers(0, 20), max_size=5),
)
def test_stream_is_a_pure_function_of_seed_and_step(n, batch, window, seed, chosen, jumps):
    numbers = np.arange(n) if chosen == "all" else np.flatnonzero(np.arange(n) % 3 != 1)
    rows = {"all": None, "index": numbers, "selection": RowSelection([np.isin(np.arange(n), numbers)])}[
        chosen
    ]
    stream = ActivationStream(Numbers(n), SITES, batch, seed, rows=rows, window=window)
    expected = np.concatenate(
        [numbers[by_definition(len(numbers), seed, window, epoch)] for epoch in range(3)]
    )
    for step in [0, 1, 2, *jumps]:
        drawn = expected[step * batch : (step + 1) * batch]
        if len(drawn) < batch:
            continue
        batches = stream.batch(step)
        assert list(batches) == list(SITES)
        np.testing.assert_array_equal(stream.row_numbers(step), drawn)
        for place, site in enumerate(SITES):
            assert batches[site].dtype == np.float32
            np.testing.assert_array_equal(batches[site], np.stack([drawn, np.full(batch, place)], axis=1))
    for number, (one, other) in enumerate(
        zip(
            stream.batches(1),
            ActivationStream(Numbers(n), SITES[:1], batch, seed, rows=rows, window=window).batches(1),
            strict=False,
        )
    ):
        np.testing.assert_array_equal(one[SITES[0]], other[SITES[0]])
        if number == 2:
            break


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_stream_of_a_store_across_shards(tmp_path, dtype):
    lengths = [9] * 80
    values = rows_of(lengths, 4)
    store, _ = write(tmp_path / "a.h5", lengths, values=values, dtype=dtype, shard_rows=100)
    assert len(store.shards) > 5
    stream = ActivationStream(store, SITES, 100, 3, window=256)
    for step in (0, 5, 2, 9):
        batch, rows = stream.batch(step), stream.row_numbers(step)
        for site in SITES:
            whole = np.concatenate(values[site])[rows]
            np.testing.assert_array_equal(batch[site], bf16(whole) if dtype == "bfloat16" else whole)
    single = list(islice(store.shuffled_batches(SITES[1], 100, 3, start_step=2, window=256), 2))
    np.testing.assert_array_equal(single[1], stream.batch(3)[SITES[1]])


def test_order_depends_on_seed_and_epoch_and_is_mixed():
    streams = [ActivationStream(Numbers(600), SITES, 600, seed) for seed in (0, 1)]
    epochs = [stream.batch(step)[SITES[0]][:, 0] for stream in streams for step in (0, 1)]
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert abs(np.corrcoef(epochs[0], np.arange(600))[0, 1]) < 0.2


def test_memory_does_not_grow_with_the_store():
    peaks = []
    for n_rows in (10**5, 10**8):
        source = Numbers(n_rows)
        tracemalloc.start()
        stream = ActivationStream(source, SITES, 64, 0, window=4096)
        for step in (0, 1, n_rows // 64 - 5):
            stream.batch(step)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert source.most <= 4096
    # the order of the chunks; the rows themselves would take 800 MB
    assert peaks[1] < peaks[0] + 10**8 / 256 * 24


def test_wrong_arguments():
    for arguments, word in (
        ((SITES, 0, 0), "batch_size 0"),
        ((("blocks.9.hook_resid_post",), 4, 0), "unknown site"),
    ):
        with pytest.raises(UserError, match=word):
            ActivationStream(Numbers(5), *arguments)
    with pytest.raises(UserError, match="no rows to draw from at blocks.0"):
        ActivationStream(Numbers(5), SITES, 4, 0, rows=np.array([], dtype=np.int64))
    with pytest.raises(UserError, match="step -1 of a stream"):
        ActivationStream(Numbers(5), SITES, 4, 0).batch(-1)
