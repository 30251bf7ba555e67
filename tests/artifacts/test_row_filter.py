"""Row selections and filters against plain NumPy masks."""

import numpy as np
import pytest
from artifacts.store_world import SITES, rows_of, write
from hypothesis import given, settings
from hypothesis import strategies as st

from emocircuits.artifacts.store.row_filter import RowFilter, filter_rows
from emocircuits.artifacts.store.row_selection import RowSelection
from emocircuits.errors import UserError


@settings(max_examples=60)
@given(st.integers(0, 3000), st.sampled_from([0.0, 0.02, 0.5, 1.0]), st.integers(0, 99), st.integers(1, 5))
def test_selection_is_rank_and_select(n, share, seed, pieces):
    rng = np.random.default_rng(seed)
    mask = rng.random(n) < share
    selection = RowSelection(np.split(mask, np.sort(rng.integers(0, n + 1, pieces))))
    rows = np.flatnonzero(mask)
    assert len(selection) == len(rows) and selection.n_rows == n
    if len(rows):
        ranks = rng.integers(0, len(rows), 50)
        np.testing.assert_array_equal(selection.take(ranks), rows[ranks])
        np.testing.assert_array_equal(selection.take(np.arange(len(rows))), rows)
    first, stop = np.sort(rng.integers(0, n + 1, 2))
    np.testing.assert_array_equal(selection.mask(int(first), int(stop)), mask[first:stop])
    assert len(selection.take(np.array([], dtype=np.int64))) == 0
    with pytest.raises(UserError, match="chosen rows"):
        selection.take(np.array([len(rows)]))


def test_filter_leaves_out_sinks_tokens_and_extreme_norms_and_says_how_many(tmp_path):
    lengths = [6, 9, 4, 7] * 5
    values = rows_of(lengths, 4)
    for prompt in range(20):
        values[SITES[0]][prompt][0] *= 1000  # the sink
    values[SITES[0]][3][2] = 4000
    values[SITES[1]][3][2] = 4000
    values[SITES[1]][8][5] = -4000
    store, _ = write(tmp_path / "a.h5", lengths, values=values, shard_rows=30)
    wanted = np.arange(20) != 8
    banned = int(store.tokens[20])
    selection, report = filter_rows(store, RowFilter(1, (banned,), 10.0), prompts=wanted)
    mask = wanted[store.prompt_index] & (store.positions >= 1) & (store.tokens != banned)
    medians = {site: np.median(np.linalg.norm(store.read(site, mask), axis=1)) for site in SITES}
    high = {
        site: mask & (np.linalg.norm(store.read(site, slice(None)), axis=1) > 10 * medians[site])
        for site in SITES
    }
    kept = mask & ~high[SITES[0]] & ~high[SITES[1]]
    np.testing.assert_array_equal(selection.take(np.arange(len(selection))), np.flatnonzero(kept))
    assert report.n_rows == sum(lengths) - lengths[8] and report.sink_rows == 19 and report.norm_rows == 1
    assert report.token_rows == int(
        (wanted[store.prompt_index] & (store.positions >= 1) & (store.tokens == banned)).sum()
    )
    assert (
        report.kept == kept.sum() == report.n_rows - report.sink_rows - report.token_rows - report.norm_rows
    )
    assert report.norm_rows_by_site == {SITES[0]: 1, SITES[1]: 1}
    assert report.median_norms == pytest.approx(medians)
    assert filter_rows(store, RowFilter(0))[1].kept == store.n_rows
    only = filter_rows(store, RowFilter(0, max_norm_multiple=20.0), sites=SITES[:1])[1]
    assert list(only.median_norms) == [SITES[0]] and only.norm_rows >= 20


def test_wrong_filters(tmp_path):
    store, _ = write(tmp_path / "a.h5", [3, 2])
    for arguments, word in (
        ({"skip_positions": -1}, "skip_positions is -1"),
        ({"max_norm_multiple": 1.0}, "half of the rows"),
        ({"max_norm_multiple": float("nan")}, "max_norm_multiple is nan"),
    ):
        with pytest.raises(UserError, match=word):
            RowFilter(**arguments)
    with pytest.raises(UserError, match="leaves none of the 5 rows of .*a.h5"):
        filter_rows(store, RowFilter(9))
    with pytest.raises(UserError, match="unknown site"):
        filter_rows(store, RowFilter(), sites=["blocks.9.hook_resid_post"])
