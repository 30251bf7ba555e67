"""Elo from planted ratings and by another optimiser; prompts that know their options; pushes on
options only.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from experiments.tiny_world import tiny_directions, tiny_model
from scipy.optimize import minimize

from emocircuits.errors import Failure, UserError
from emocircuits.experiments.elo import POINTS, fit_elo
from emocircuits.experiments.preference import (
    Preferences,
    effect_against_reading,
    preferences,
    steered_preferences,
)
from emocircuits.experiments.preference_material import (
    PreferenceMaterial,
    option_prompts,
    ordered_pairs,
    read_material,
    stratified_half,
)


def few(n=6):
    material = read_material()
    return PreferenceMaterial(material.activities[:: 64 // n][:n], material.questions[:3])


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    material = read_material()
    texts = [
        question.format(A=one.text, B=two.text)
        for question, one, two in zip(
            material.questions, material.activities, material.activities[8:], strict=False
        )
    ]
    model = tiny_model(tmp_path_factory.mktemp("tiny"), texts=texts, words=("A", "B"))
    directions = tiny_directions(model)
    return model, directions, few(), preferences(model, directions, few())


def test_planted_ratings_are_found():
    truth = np.array([300.0, 100, 0, -50, -350])
    pairs = ordered_pairs(5)
    p_first = 1 / (1 + np.exp(-((truth[pairs[:, 0]] - truth[pairs[:, 1]]) / POINTS + 0.3)))
    found = fit_elo(pairs[:, 0], pairs[:, 1], p_first, 5)
    np.testing.assert_allclose(found.elo, truth, atol=1e-6)
    assert (
        found.first_advantage == pytest.approx(0.3 * POINTS, abs=1e-6) and found.standard_error.max() < 1e-5
    )


def test_ratings_equal_a_likelihood_by_hand():
    source = np.random.default_rng(0)
    pairs = np.concatenate([ordered_pairs(6)] * 3)
    outcome = (source.random(len(pairs)) < 0.5 + 0.1 * (pairs[:, 0] - pairs[:, 1]) / 6).astype(float)

    def loss(free):
        beta, advantage = np.append(free[:5], -free[:5].sum()), free[5]
        logits = beta[pairs[:, 0]] - beta[pairs[:, 1]] + advantage
        return (np.logaddexp(0, logits) - outcome * logits).sum()

    best = minimize(loss, np.zeros(6), method="BFGS", options={"gtol": 1e-8})
    found = fit_elo(pairs[:, 0], pairs[:, 1], outcome, 6)
    np.testing.assert_allclose(found.elo / POINTS, np.append(best.x[:5], -best.x[:5].sum()), atol=1e-4)
    assert (found.standard_error > 0).all()


@pytest.mark.parametrize(
    "first, second, p, n, error, word",
    [
        ([0, 1], [1, 1], [0.5, 0.5], 2, UserError, "an item with itself"),
        ([0, 1], [1, 0], [0.5, 1.5], 2, UserError, "outcomes outside"),
        ([0, 1], [1, 0], [0.5, 0.5], 3, UserError, "item 2 is in no pair"),
        ([0, 1], [1, 0], [0.5, 0.5], 2, UserError, "2 pairs to rate 2 items"),
        ([0, 1, 0, 2, 1, 2], [1, 0, 2, 0, 2, 1], [1.0, 0, 1, 0, 1, 0], 3, Failure, "Bradley-Terry"),
    ],
)
def test_bad_pairs(first, second, p, n, error, word):
    with pytest.raises(error, match=word):
        fit_elo(np.array(first), np.array(second), np.array(p), n)


def test_every_activity_is_offered_equally_often():
    assert (
        len(ordered_pairs(64)) == 4032 and len({tuple(pair) for pair in ordered_pairs(64).tolist()}) == 4032
    )
    for most in (64, 128, 640):
        pairs = ordered_pairs(64, most, seed=1)
        assert (
            len(pairs) == most
            and len({tuple(pair) for pair in pairs.tolist()}) == most
            and (pairs[:, 0] != pairs[:, 1]).all()
        )
        counts = [np.bincount(pairs[:, side], minlength=64) for side in (0, 1)]
        assert {*counts[0], *counts[1]} == {most // 64}
    np.testing.assert_array_equal(ordered_pairs(64, 128, seed=1), ordered_pairs(64, 128, seed=1))


def test_prompts_know_where_their_options_stand(asked):
    model, _, material, _ = asked
    prompts = option_prompts(model, material, ordered_pairs(6), seed=2)
    for prompt in prompts:
        for activity, span in zip((prompt.first, prompt.second), prompt.spans, strict=True):
            told = "".join(model.token_texts(prompt.tokens[span]))
            assert (
                material.activities[activity].text in told
                and len(told) <= len(material.activities[activity].text) + 2
            )
        text = "".join(model.token_texts(prompt.tokens))
        assert text.index(material.activities[prompt.first].text) < text.index(
            material.activities[prompt.second].text
        )


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


@pytest.mark.parametrize(
    "text, word",
    [
        ("question = ['{A} or {B}']\n[[activity]]\nid='a'\ntext='x'", "has 1 activities"),
        (
            "question = ['{A} or']\n" + "".join(f"[[activity]]\nid='{n}'\ntext='x'\n" for n in range(4)),
            "{A} and {B} once each",
        ),
        (
            "labels = ['A']\nquestion = ['{A} or {B}']\n"
            + "".join(f"[[activity]]\nid='{n}'\ntext='x'\n" for n in range(4)),
            "1 labels",
        ),
        ("question = 3", "is not right"),
        ("= =", "is not right"),
    ],
)
def test_bad_material(tmp_path, text, word):
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=word):
        read_material(path)


def test_the_organisms_material():
    material = read_material()
    assert (
        len(material.activities) == 64
        and len({one.category for one in material.activities}) == 8
        and material.labels == ("A", "B")
    )
