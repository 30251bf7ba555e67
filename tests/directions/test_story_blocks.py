"""Which tokens of a story count."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from directions.direction_world import SITE, plain_store
from directions.story_store import make_store

from emocircuits.directions import (
    ESTIMATORS,
    DirectionSettings,
    learn_directions,
    story_blocks,
    summarise,
)
from emocircuits.directions.design import make_design
from emocircuits.directions.statistics import site_statistics
from emocircuits.directions.story_blocks import plan_stories, prompt_blocks
from emocircuits.errors import UserError


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "a.h5")


def test_stories_cannot_start_at_the_attention_sink(world):
    with pytest.raises(UserError, match="directions.from_token is 0; expected at least 1"):
        DirectionSettings(from_token=0)
    with pytest.raises(UserError, match="attention sink"):
        summarise(world[0], from_token=0)


def test_token_norm_is_a_mean_of_unit_tokens_in_residual_units(tmp_path):
    source = np.random.default_rng(0)
    x, labels = source.standard_normal((40, 5)) * source.uniform(1, 50, (40, 1)), np.repeat([0, 1], 20)
    splits = np.tile(["train", "held_out"], 20)
    found = learn_directions(
        plain_store(tmp_path / "a.h5", x, labels, splits=splits),
        DirectionSettings(from_token=1, neutral_variance=0.0, token_norm=True, content_controls=0),
    )
    fit = splits == "train"
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    means = np.stack([unit[fit & (labels == label)].mean(axis=0) for label in (0, 1)])
    np.testing.assert_allclose(
        found.differences(SITE), found.residual_norm[0] * (means - means.mean(axis=0)), rtol=1e-3, atol=1e-3
    )


def test_memory_does_not_grow_with_the_number_of_stories(tmp_path, monkeypatch):
    monkeypatch.setattr(story_blocks, "BLOCK_ROWS", 512)
    source, width, peaks = np.random.default_rng(0), 512, []
    for n in (1000, 4000):
        labels = np.arange(n) % 4
        splits = np.where(np.arange(n) % 100 < 4, "held_out", "train")
        store = plain_store(
            tmp_path / f"{n}.h5", source.standard_normal((n, width)), labels, splits=splits, tokens=1
        )
        settings = DirectionSettings(
            from_token=1, bootstrap=10, splits=1, shuffled_controls=1, content_controls=0, max_held_out=10
        )
        plan = plan_stories(store, from_token=1)
        design = make_design(
            plan,
            tuple(f"e{label}" for label in range(4)),
            (),
            np.full(n, -1),
            settings,
            ESTIMATORS.get("difference_of_means"),
        )
        tracemalloc.start()
        site_statistics(store, plan, SITE, replace(design, chunk=256))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 0.1 * 3000 * width * 4  # a tenth of what the stories' means would take


def test_blocks_end_with_prompts():
    assert prompt_blocks(np.array([3, 3, 3, 20, 1]), 6) == [(0, 2), (2, 3), (3, 4), (4, 5)]
    assert prompt_blocks(np.array([5]), 2) == [(0, 1)]
