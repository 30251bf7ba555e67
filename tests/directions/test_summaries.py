"""Summaries of stories against loops."""

import numpy as np
import pytest
from directions.story_store import SITES, START, make_store

from emocircuits.directions import story_blocks, summarise


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "a.h5")


def test_summary_equals_loops(world, monkeypatch):
    store, values = world
    monkeypatch.setattr(story_blocks, "BLOCK_ROWS", 37)  # a few stories at a time
    found = summarise(store, from_token=START)
    stories = [
        number for number, row in store.prompts.iterrows() if row["kind"] == "story" and not row["named"]
    ]
    np.testing.assert_allclose(
        found.story_means, [values[number][:, START:].mean(axis=1) for number in stories], atol=1e-4
    )
    neutral = np.concatenate(
        [values[number][:, 1:] for number, row in store.prompts.iterrows() if row["kind"] == "neutral"],
        axis=1,
    )
    for site in range(len(SITES)):
        np.testing.assert_allclose(
            found.neutral_cov[site], np.cov(neutral[site].T, bias=True), rtol=1e-4, atol=1e-3
        )
        everything = np.concatenate([x[site, 1:] for x in values])
        assert found.residual_norm[site] == pytest.approx(np.linalg.norm(everything, axis=1).mean(), rel=1e-5)
