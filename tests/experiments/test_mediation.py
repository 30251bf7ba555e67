"""Mediation against the planted model's formulas and against nested hooks; what is held must be what is
named.
"""

import math

import numpy as np
import pytest
import torch
from fixtures.make_directions import push_along
from planted.paper_model import random_saes

from emocircuits.artifacts.direction import Direction
from emocircuits.errors import Failure, UserError
from emocircuits.experiments.mediation import HeldSet, MediationSettings, mediation
from emocircuits.interventions.splice import splice
from emocircuits.interventions.steer import steer
from emocircuits.models.loader import load_model
from emocircuits.models.planted.model import (
    ACT_GAIN,
    ACT_GATE,
    CHEAT_ACT,
    CHEAT_DIRECT,
    CHEAT_OFFSET,
    PLAN_GAIN,
    PLAN_OFFSET,
    planted_pairs,
    write_planted_model,
)
from emocircuits.models.planted.saes import D_SAE, FEATURES, planted_saes
from emocircuits.models.planted.text import AXES, D_MODEL, WORD
from emocircuits.models.tiny import write_tiny_model
from emocircuits.names import residual_site
from emocircuits.passes.prompt_pairs import PromptPairs
from emocircuits.passes.task import Task

SITES = [residual_site(layer) for layer in range(3)]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    model = load_model(str(write_planted_model(tmp_path_factory.mktemp("planted"))), checks=False)
    cheat, fix = model.single_token("cheat"), model.single_token("fix")
    texts = sorted({pair.corrupt for pair in planted_pairs(12)})
    prompts = [model.encode(text) for text in texts]
    return (
        model,
        texts,
        Task(
            model,
            PromptPairs.of(prompts, prompts),
            lambda logits: logits[:, -1, cheat] - logits[:, -1, fix],
            behaviour="cheating",
        ),
    )


def silu(value):
    return value / (1 + math.exp(-value))


def by_hand(state, push, *, hold_plan=False, hold_act=False):
    """The formulas of the planted model with state:desperate pushed, plan or act held at its
    unpushed value.
    """

    def run(added, plan=None, act=None):
        pull = state["desperate"] + added - state["calm"]
        length = 1 + (sum(v**2 for v in state.values()) + 2 * added * state["desperate"] + added**2) / D_MODEL
        r1 = math.sqrt(length)
        plan = PLAN_GAIN * silu((PLAN_OFFSET + pull) / r1) / r1 if plan is None else plan
        r2 = math.sqrt(length + plan**2 / D_MODEL)
        act = ACT_GAIN * silu(ACT_GATE * WORD / r2) * plan / r2 if act is None else act
        r3 = math.sqrt(r2**2 + act**2 / D_MODEL)
        return (CHEAT_ACT * act - CHEAT_OFFSET + CHEAT_DIRECT * pull) / r3, plan, act

    base, plan, act = run(0.0)
    free = run(push)[0] - base
    held = run(push, plan if hold_plan else None, act if hold_act else None)[0] - base
    return free, held


def states(text):
    from collections import Counter

    from emocircuits.models.planted.model import STATE_GAIN
    from emocircuits.models.planted.text import CLASS_OF, CLASSES

    words = text.split()
    count = Counter(CLASS_OF[word] for word in words if word in CLASS_OF)
    return {c: STATE_GAIN * WORD * count[c] / (len(words) + 1) for c in CLASSES}


def pointing(site, vector, residual_norm):
    return Direction("desperate", "emotion", site, vector, residual_norm)


def held(name, site, *features):
    return HeldSet(
        name, "test", {site: np.array([FEATURES[feature] for feature in features], dtype=np.int64)}
    )


def test_mediated_shares_are_those_of_the_formulas(planted):
    model, texts, behaviour = planted
    vector = np.zeros(D_MODEL, np.float32)
    vector[AXES["state:desperate"]] = 3.0  # its length must not matter
    sets = [
        held("plan", SITES[1], "plan"),
        held("act", SITES[2], "act"),
        held("state", SITES[0], "state:desperate"),
        held("happy", SITES[0], "state:happy"),
        HeldSet("nothing", "test", {}),
        HeldSet("all", "all", {site: np.arange(D_SAE) for site in SITES}),
    ]
    found = mediation(
        model,
        planted_saes(),
        [behaviour],
        pointing(SITES[0], vector, 2.0),
        sets,
        MediationSettings(strength=0.5),
    )
    rows = found.table.set_index("held")
    wanted = {
        name: np.array([by_hand(states(text), 1.0, **{f"hold_{name}": True}) for text in texts])
        for name in ("plan", "act")
    }
    for name, pairs in wanted.items():
        free, direct = pairs.mean(axis=0)
        assert rows.loc[name, "effect_free"] == pytest.approx(free, rel=2e-3)
        assert rows.loc[name, "effect_held"] == pytest.approx(direct, rel=2e-3, abs=1e-4)
        assert rows.loc[name, "mediated"] == pytest.approx(1 - direct / free, abs=5e-3)
        assert rows.loc[name, "ci_low"] <= rows.loc[name, "mediated"] <= rows.loc[name, "ci_high"]
    assert 0.4 < rows.loc["plan", "mediated"] < 0.95  # a direct path is left, but most goes through the plan
    assert rows.loc["state", "mediated"] == pytest.approx(1, abs=1e-4)
    assert rows.loc["happy", "mediated"] == pytest.approx(0, abs=1e-4)
    assert rows.loc["nothing", "mediated"] == 0
    assert rows.loc["all", "share"] == 1 and rows.loc["plan", "features"] == 1
    assert set(rows["n"]) == {len(texts)} and set(rows["strength"]) == {0.5}


@pytest.mark.parametrize("architecture", ["topk", "standard"])
def test_holding_equals_a_splice_with_the_unsteered_features(architecture, tmp_path):
    model = load_model(str(write_tiny_model("llama", tmp_path)), checks=False)
    saes = random_saes(architecture, 3, model.d_model, 48, torch.float32)
    source = np.random.default_rng(0)
    prompts = tuple(tuple(source.integers(3, model.d_vocab, length).tolist()) for length in (7, 9, 7))
    chosen = {SITES[1]: np.sort(source.choice(48, 20, replace=False)), SITES[2]: np.arange(0, 48, 2)}

    def metric(logits):
        return logits[:, -1, 5] - logits[:, -1, 7]

    behaviour = Task(model, PromptPairs.of(prompts, prompts), metric, behaviour="b")
    vector = source.standard_normal(model.d_model).astype(np.float32)
    found = mediation(
        model,
        saes,
        [behaviour],
        pointing(SITES[1], vector, 4.0),
        [HeldSet("some", "test", chosen)],
        MediationSettings(strength=0.5, batch_tokens=20),
    )
    values = found.values["b"]
    later = {site: saes[site] for site in SITES[1:]}
    for column, prompt in enumerate(prompts):
        tokens = torch.tensor([prompt])
        with torch.no_grad(), splice(model.bridge, later) as leaves:
            base = metric(model.bridge(tokens))
            free = {site: leaf.features.clone() for site, leaf in leaves.items()}

        def replace_at(site, free=free):
            mask = torch.zeros(48)
            mask[chosen[site]] = 1
            return lambda f, e: (f + mask * (free[site] - f), e)

        with torch.no_grad(), steer(model.bridge, push_along(SITES[1], vector, 0.5, 4.0)):
            steered = metric(model.bridge(tokens))
            with splice(model.bridge, later, replace={site: replace_at(site) for site in later}):
                expected = metric(model.bridge(tokens))
        np.testing.assert_allclose(
            values[:, column], [float(base[0]), float(steered[0]), float(expected[0])], atol=2e-4
        )


def test_what_cannot_be_held_is_refused(planted):
    model, _, behaviour = planted
    direction = pointing(SITES[0], np.eye(D_MODEL, dtype=np.float32)[AXES["state:desperate"]], 2.0)
    with pytest.raises(UserError, match="no features to hold"):
        mediation(model, planted_saes(), [behaviour], direction, [])
    with pytest.raises(UserError, match="holds feature 999"):
        mediation(
            model,
            planted_saes(),
            [behaviour],
            direction,
            [HeldSet("x", "test", {SITES[1]: np.array([999])})],
        )
    with pytest.raises(UserError, match="no SAE at the steering site"):
        mediation(
            model,
            {SITES[2]: planted_saes()[SITES[2]]},
            [behaviour],
            direction,
            [HeldSet("x", "test", {})],
        )
    idle = Task(model, behaviour.prompts, lambda logits: logits[:, -1, 0] * 0, behaviour="idle")
    with pytest.raises(Failure, match="does not move idle"):
        mediation(model, planted_saes(), [idle], direction, [HeldSet("x", "test", {})])
