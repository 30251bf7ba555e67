"""Forecasts: what doubles doubles, counts by hand, and every stage of a run has a line."""

from dataclasses import replace

import pytest

from emocircuits.models import load_model
from emocircuits.models.memory import Shape
from emocircuits.runs.recipe import load_recipe
from emocircuits.stages import ORDER
from emocircuits.studies.forecast import Material, Pace, count_material, forecast, measure_pace

SHAPE = Shape(135_000_000, 30, 576, 9, 1536, 49_152)
PACE = Pace(forward=4e-3, gradient=12e-3, token=0.02, sae_row=2e-4)
MATERIAL = Material(tokens=100_000, written=0, stories=60_000, emotions=12, pair_tokens={"felt_very": 60.0})


def by_stage(recipe, pace=PACE, material=MATERIAL):
    return {row["stage"]: row for row in forecast(recipe, SHAPE, 30, pace, material)}


def test_every_stage_has_a_line_and_the_last_is_their_sum():
    rows = by_stage(load_recipe(None, profile="quick"))
    assert tuple(rows) == (*ORDER, "all")
    parts = [rows[name] for name in ORDER]
    assert rows["all"]["seconds"] == pytest.approx(sum(row["seconds"] for row in parts))
    assert rows["all"]["memory_gb"] == max(row["memory_gb"] for row in parts)
    assert all(row["seconds"] > 0 and row["memory_gb"] > 0 for row in parts)


def test_counts_by_hand():
    recipe = load_recipe(
        None, ("layers=[14, 29]", "sae.workers=1", "sae.training_rows=1000"), profile="quick"
    )
    rows = by_stage(recipe)
    assert rows["collect"]["seconds"] == pytest.approx(100_000 * 4e-3)  # through all thirty blocks
    assert rows["collect"]["disk_gb"] == pytest.approx(100_000 * 576 * 2 * 2 / 2**30)
    halfway = recipe.sae.loss_tokens * 4e-3 * (1 + 0.5 + 0 + 0.4) * (1 + 49_152 / 20_000)
    assert rows["sae"]["seconds"] == pytest.approx(1000 * 2 * 2e-4 + halfway)


def test_what_doubles_doubles():
    recipe = load_recipe(None, profile="quick")
    one, slow = by_stage(recipe), by_stage(recipe, replace(PACE, forward=8e-3, gradient=24e-3, sae_row=4e-4))
    for name in ("collect", "sae", "attribute", "circuit", "evaluate"):
        assert slow[name]["seconds"] == pytest.approx(2 * one[name]["seconds"])
    more = by_stage(replace(recipe, attribute=replace(recipe.attribute, pairs=32)))
    assert more["attribute"]["seconds"] == pytest.approx(2 * one["attribute"]["seconds"])
    written = by_stage(recipe, material=replace(MATERIAL, written=10_000))
    assert written["collect"]["seconds"] - one["collect"]["seconds"] == pytest.approx(200)


def test_a_real_recipe_is_counted_and_measured():
    model, recipe = load_model("planted"), load_recipe("analyses/recipes/debug.toml")
    recipe = replace(recipe, model="planted", behaviours=("reward_hacking",))
    recipe = replace(recipe, collect=replace(recipe.collect, material="planted", emotions=()))
    material = count_material(model, recipe)
    assert material.emotions > 1 and 0 < material.stories < material.tokens
    assert set(material.pair_tokens) == {"reward_hacking"}
    pace = measure_pace(model, recipe, prompts=1)
    assert min(pace.forward, pace.gradient, pace.token, pace.sae_row) > 0
