"""Elo from planted ratings and by another optimiser; prompts that know their options; pushes on
options only.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from experiments.preference_world import asked_model

from emocircuits.errors import UserError
from emocircuits.experiments.elo import fit_elo
from emocircuits.experiments.preference import (
    Preferences,
    effect_against_reading,
    steered_preferences,
)
from emocircuits.experiments.preference_material import (
    option_prompts,
    ordered_pairs,
    stratified_half,
)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    return asked_model(tmp_path_factory.mktemp("tiny"))


def test_preferences_equal_one_prompt_at_a_time(asked):
    model, directions, material, found = asked
    labels = [model.single_token(label) for label in material.labels]
    prompts = option_prompts(model, material, ordered_pairs(6), 0)
    sums, counts, p_first = np.zeros((6, model.d_model)), np.zeros(6), []
    for prompt in prompts:
        kept = {}
        with (
            torch.no_grad(),
            model.bridge.hooks(
                fwd_hooks=[(model.sites[1], lambda value, hook: kept.update(x=value[0].double().numpy()))]
            ),
        ):
            logits = model.bridge(torch.tensor([prompt.tokens]))[0, -1, labels].double()
        p_first.append(float(logits.softmax(-1)[0]))
        for activity, span in zip((prompt.first, prompt.second), prompt.spans, strict=True):
            sums[activity] += kept["x"][span].mean(axis=0)
            counts[activity] += 1
    pairs = ordered_pairs(6)
    np.testing.assert_allclose(
        found.ratings.elo, fit_elo(pairs[:, 0], pairs[:, 1], np.array(p_first), 6).elo, atol=1e-3
    )
    expected = (
        (sums / counts[:, None] - directions.mean[1])
        @ directions.vectors[1].T
        / directions.scale(model.sites[1])
    )
    np.testing.assert_allclose(found.readings[1], expected, atol=1e-5)
    row = found.correlations().query("emotion == 'sad' and site == @model.sites[1]").iloc[0]
    assert row.r == pytest.approx(np.corrcoef(expected[:, 1], found.ratings.elo)[0, 1], abs=1e-4)
    assert found.n_pairs == 30 and found.table().elo.is_monotonic_decreasing


def test_pushes_reach_only_the_options_of_one_half(asked):
    """A push changes P(A) exactly as a hook that adds it at the tokens of the pushed half does."""
    model, directions, material, found = asked
    site, norm, strength = model.sites[0], 4.0, 0.5
    chosen = directions.with_controls(("sad",), site=site, kinds=("random",))
    assert {direction.residual_norm for direction in chosen} == {norm}
    table = steered_preferences(model, found, chosen, strength=strength)
    half = stratified_half(found.ratings.elo.tolist(), 0)
    labels = [model.single_token(label) for label in material.labels]
    pairs, p = ordered_pairs(6), {"plain": [], "pushed": []}
    for prompt in option_prompts(model, material, pairs, 0):
        mask = torch.zeros(len(prompt.tokens), 1)
        for activity, span in zip((prompt.first, prompt.second), prompt.spans, strict=True):
            mask[span] = float(half[activity])
        for name, push in (("plain", 0.0), ("pushed", strength * norm)):
            vector = push * torch.from_numpy(chosen[0].vector)
            with (
                torch.no_grad(),
                model.bridge.hooks(fwd_hooks=[(site, lambda value, hook, m=mask, v=vector: value + m * v)]),
            ):
                p[name].append(
                    float(model.bridge(torch.tensor([prompt.tokens]))[0, -1, labels].double().softmax(-1)[0])
                )
    change = fit_elo(*pairs.T, np.array(p["pushed"]), 6).elo - fit_elo(*pairs.T, np.array(p["plain"]), 6).elo
    expected = change[half == 1].mean() - change[half == 0].mean()
    assert table.delta_elo.iloc[0] == pytest.approx(expected, abs=1e-3)
    assert (
        half.sum() == 3
        and (table.ci_low < table.delta_elo).all()
        and table.kind.tolist() == ["emotion"] + ["random"] * 4
    )


def test_sites_are_judged_without_steering(asked):
    _, _, material, found = asked
    elo = np.linspace(-100, 100, 6)
    readings = np.random.default_rng(0).standard_normal((3, 6, 4))
    readings[1, :, 2] = 5 * elo
    made = Preferences(
        material, type(found.ratings)(elo, np.ones(6), 0.0), readings, tuple("xyz"), tuple("abcd"), 30
    )
    scores = made.site_scores().set_index("site")
    assert (
        made.best_site() == "y"
        and scores.loc["y", "predicted_r"] > 0.95
        and scores.loc["y", "largest_abs_r"] == pytest.approx(1)
    )
    assert made.best_site(but="y") in "xz"
    # leave-one-out by refitting
    block = readings[0] - readings[0].mean(axis=0)
    gram, y, out = block @ block.T, elo - elo.mean(), []
    ridge = 0.1 * np.trace(gram) / 6
    for left in range(6):
        keep = np.arange(6) != left
        w = np.linalg.solve(block[keep].T @ block[keep] + ridge * np.eye(4), block[keep].T @ y[keep])
        out.append(block[left] @ w)
    assert scores.loc["x", "predicted_r"] == pytest.approx(np.corrcoef(out, y)[0, 1], abs=1e-9)
    with pytest.raises(UserError, match="no site but"):
        Preferences(material, found.ratings, found.readings[:1], ("x",), found.emotions, 30).best_site(
            but="x"
        )


def test_agreement_of_reading_and_effect():
    correlations = pd.DataFrame({"emotion": list("abcde"), "r": [0.1, 0.5, -0.3, 0.2, 0.9]})
    effects = pd.DataFrame(
        {
            "direction": [*"abcde", "random 0"],
            "kind": ["emotion"] * 5 + ["random"],
            "delta_elo": [1, 5, -3, 2, 8, 99.0],
        }
    )
    found = effect_against_reading(correlations, effects)
    assert (
        found["r"] == pytest.approx(np.corrcoef(correlations.r, effects.delta_elo[:5])[0, 1])
        and found["n_emotions"] == 5
    )
    assert found["rho"] == pytest.approx(1.0)
    with pytest.raises(UserError, match="3 emotions were both"):
        effect_against_reading(correlations[:3], effects)


@pytest.mark.parametrize("strength", [0.0, 40.0, -3.0, float("nan")])
def test_a_strength_in_another_unit_is_refused(asked, strength):
    model, directions, _, found = asked
    chosen = directions.with_controls(("sad",), site=model.sites[0], kinds=())
    with pytest.raises(UserError, match="a fraction of the mean residual norm"):
        steered_preferences(model, found, chosen, strength=strength)


def test_the_last_site_cannot_be_pushed(asked):
    model, directions, _, found = asked
    chosen = directions.with_controls(("sad",), site=model.sites[-1], kinds=())
    with pytest.raises(UserError, match="a site before the last"):
        steered_preferences(model, found, chosen)
