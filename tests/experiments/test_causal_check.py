"""The causal check against single hooks; on the planted model the planted features act and the distractors do
not.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.make_directions import push_along

from emocircuits.artifacts.direction import Direction
from emocircuits.errors import UserError
from emocircuits.experiments.causal_check import COLUMNS, CausalSettings, SiteCheck, causal_check
from emocircuits.interventions.steer import steer
from emocircuits.models.loader import load_model
from emocircuits.models.planted.model import planted_pairs, write_planted_model
from emocircuits.models.planted.saes import D_SAE, FEATURES, planted_saes
from emocircuits.models.planted.text import AXES, D_MODEL
from emocircuits.names import residual_site
from emocircuits.passes.edit import edited
from emocircuits.passes.prompt_pairs import PromptPairs
from emocircuits.passes.task import Task
from emocircuits.sae.dictionary import open_dictionaries

SITE = residual_site(0)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    model = load_model(str(write_planted_model(tmp_path_factory.mktemp("planted"))), checks=False)
    cheat, fix = model.single_token("cheat"), model.single_token("fix")

    def behaviour(side):
        texts = sorted({getattr(pair, side) for pair in planted_pairs(10)})
        prompts = [model.encode(text) for text in texts]
        return Task(
            model,
            PromptPairs.of(prompts, prompts),
            lambda logits: logits[:, -1, cheat] - logits[:, -1, fix],
            behaviour="cheating",
        )

    return model, behaviour("corrupt"), behaviour("clean")


@pytest.fixture(scope="module")
def check():
    vector = np.zeros(D_MODEL, np.float32)
    vector[[AXES["state:desperate"], AXES["state:calm"]]] = [0.8, -0.6]
    others = np.array(
        [FEATURES[name] for name in ("state:happy", "state:sad")] + list(range(len(FEATURES), D_SAE))
    )
    control = np.zeros((3, D_MODEL), np.float32)
    control[np.arange(3), [AXES["state:happy"], AXES["state:sad"], AXES["word:happy"]]] = 1
    return SiteCheck(
        direction=Direction("desperate", "emotion", SITE, vector, 3.0),
        kept=np.array([FEATURES["state:desperate"], FEATURES["state:calm"]]),
        random=others,
        carriers=np.array([FEATURES["state:desperate"], FEATURES["state:calm"]]),
        carrier_weights=np.array([1.0, -0.5]),
        random_sets=others[:6].reshape(3, 2),
        random_vectors=control,
        mean=np.full(D_MODEL, 0.1, np.float32),
    )


@pytest.fixture(scope="module")
def table(planted, check):
    model, calm, pressed = planted
    return causal_check(
        model,
        planted_saes(),
        [check],
        [calm],
        [pressed],
        CausalSettings(strength=0.2, batch_tokens=60),
    )


def row(table, what, intervention, feature=-1):
    chosen = table[
        (table["what"] == what) & (table["intervention"] == intervention) & (table["feature"] == feature)
    ]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_slopes_equal_single_hooks(planted, check, table):
    model, calm, _ = planted
    decoder = planted_saes()[SITE].W_dec.detach()
    desperate, still = FEATURES["state:desperate"], FEATURES["state:calm"]
    vectors = {
        ("feature", desperate): decoder[desperate],
        ("feature", still): decoder[still],
        ("carriers", -1): decoder[desperate] - 0.5 * decoder[still],
        ("direction", -1): torch.from_numpy(check.direction.vector),
    }
    for (what, feature), vector in vectors.items():
        slopes = []
        for prompt in calm.prompts.token_lists():
            ends = []
            for strength in (0.2, -0.2):
                with torch.no_grad(), steer(model.bridge, push_along(SITE, vector, strength, 3.0)):
                    ends.append(float(calm.metric(model.bridge(torch.tensor([prompt])))[0]))
            slopes.append((ends[0] - ends[1]) / 0.4)
        found = row(table, what, "steer", feature)
        assert found["effect"] == pytest.approx(np.mean(slopes), abs=2e-4)
        assert found["ci_low"] <= found["effect"] <= found["ci_high"] and found["n"] == len(calm.prompts)


def test_ablations_equal_single_hooks(planted, check, table):
    model, _, pressed = planted
    dictionary = open_dictionaries(planted_saes())[SITE]
    desperate, still = FEATURES["state:desperate"], FEATURES["state:calm"]

    def without(features):
        return lambda x: x - dictionary.encode(x)[..., features] @ dictionary.decoder[features]

    def off(x):
        line = torch.from_numpy(check.direction.vector)
        return x - ((x - 0.1) @ line)[..., None] * line

    for what, feature, edit in (
        ("feature", desperate, without([desperate])),
        ("carriers", -1, without([desperate, still])),
        ("direction", -1, off),
    ):
        changes = []
        for prompt in pressed.prompts.token_lists():
            tokens = torch.tensor([prompt])
            with torch.no_grad():
                intact = pressed.metric(model.bridge(tokens))
                with edited(model.bridge, {SITE: edit}, what="test"):
                    changes.append(float(pressed.metric(model.bridge(tokens)) - intact))
        assert row(table, what, "ablate", feature)["effect"] == pytest.approx(np.mean(changes), abs=2e-4)


def test_planted_features_act_beyond_the_others(table):
    assert list(table.columns) == list(COLUMNS)
    desperate, still = FEATURES["state:desperate"], FEATURES["state:calm"]
    for intervention, sign in (("steer", 1), ("ablate", -1)):
        assert sign * row(table, "feature", intervention, desperate)["effect"] > 0
        assert row(table, "feature", intervention, desperate)["p_value"] == pytest.approx(
            1 / (1 + D_SAE - len(FEATURES) + 2)
        )
        assert sign * row(table, "direction", intervention)["effect"] > 0
        assert sign * row(table, "carriers", intervention)["effect"] > 0
    assert row(table, "feature", "steer", still)["effect"] < 0
    low, high = row(table, "feature", "steer", desperate)[["random_low", "random_high"]]
    assert low <= high < row(table, "feature", "steer", desperate)["effect"]
    assert (table["q_value"] >= table["p_value"] - 1e-12).all()


def test_a_check_needs_a_site(planted):
    with pytest.raises(UserError, match="no site to check"):
        causal_check(planted[0], planted_saes(), [], [], [])


def test_a_check_is_of_one_emotion(planted, check):
    other = replace(check, direction=replace(check.direction, name="calm"))
    with pytest.raises(UserError, match="checks of calm, desperate"):
        causal_check(planted[0], planted_saes(), [check, other], [], [])
