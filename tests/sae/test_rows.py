"""Massive rows count in no measurement; rows that are only long do."""

import numpy as np
from fixtures.planted_store import SITES, overwrite, planted_store

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.sae.rows import MASSIVE, checked_rows, held_out_rows, ordinary_rows


def test_massive_rows_are_left_out_site_by_site(tmp_path):
    store = planted_store(tmp_path / "activations.h5", n_prompts=40)
    rows = held_out_rows(store)
    norms = np.linalg.norm(store.read(SITES[0], rows), axis=1)
    massive, long = int(rows[3]), int(rows[7])
    overwrite(store, SITES[0], massive, 0, 1.2 * MASSIVE * float(np.median(norms)))
    overwrite(store, SITES[0], long, 0, 0.8 * MASSIVE * float(np.median(norms)))
    store = ActivationStore.open(store.path)
    kept = held_out_rows(store, SITES[0])
    assert set(rows) - set(kept) == {massive} and long in kept
    np.testing.assert_array_equal(held_out_rows(store, SITES[1]), rows)  # only there it is massive
    assert len(checked_rows(store, SITES[0])) == len(kept)
    every = ordinary_rows(store, SITES[0], np.ones(store.n_prompts, dtype=bool))
    assert len(every) == (store.positions > 0).sum() - 1
