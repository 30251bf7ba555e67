"""The planted model as an ordinary directory: its log-odds are the formula's, its circuit is the one set by
hand.
"""

import numpy as np
import pytest
import torch
from fixtures.make_directions import push_along
from planted.tasks import strong_circuit
from sae_lens import SAE

from emocircuits.circuits.compare import patch_agreement
from emocircuits.circuits.quality import circuit_quality
from emocircuits.interventions.steer import steer
from emocircuits.models.loader import load_model
from emocircuits.models.planted.model import (
    AXES,
    expected_log_odds,
    planted_pairs,
    planted_stories,
    write_planted_model,
)
from emocircuits.models.planted.saes import FEATURES, planted_saes
from emocircuits.names import residual_site
from emocircuits.passes.prompt_pairs import PromptPairs
from emocircuits.passes.task import Task


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    directory = write_planted_model(tmp_path_factory.mktemp("planted"))
    model = load_model(str(directory))
    cheat, fix = model.single_token("cheat"), model.single_token("fix")
    return directory, model, lambda logits: logits[:, -1, cheat] - logits[:, -1, fix]


def prompts_of(model, pairs):
    return PromptPairs.of_tokens([(model.encode(pair.clean), model.encode(pair.corrupt)) for pair in pairs])


def test_log_odds_are_the_formula_and_rise_with_desperate_words(world):
    _, model, metric = world
    pairs = planted_pairs(24)
    for text in {text for pair in pairs for text in (pair.clean, pair.corrupt)}:
        with torch.no_grad():
            found = metric(model.bridge(torch.tensor([model.encode(text)])))
        assert float(found) == pytest.approx(expected_log_odds(text), abs=1e-4)
    by_count = [np.mean([expected_log_odds(p.clean) for p in pairs if p.n_words == n]) for n in range(1, 7)]
    assert np.all(np.diff(by_count) > 0.1)


def test_the_circuit_is_the_planted_one(world):
    _, model, metric = world
    find, score = (
        Task(model, prompts_of(model, planted_pairs(18, seed=seed)), metric, planted_saes())
        for seed in (0, 1)
    )
    result, circuit = strong_circuit(find, 0.2, 0.2)

    def node(layer, name):
        return f"feature/{residual_site(layer)}/{FEATURES[name]}"

    nodes = [node(0, "state:desperate"), node(0, "state:calm"), node(1, "plan"), node(2, "act")]
    assert {n.id for n in circuit.nodes} == {*nodes, "logits"}
    assert {(e.source, e.target) for e in circuit.edges} == {
        (nodes[0], nodes[2]),
        (nodes[1], nodes[2]),
        (nodes[2], nodes[3]),
        (nodes[3], "logits"),
    }
    found = circuit_quality(nodes, result, score, find)
    assert 0.75 < found.faithfulness < 1.0  # the direct path from the states is outside
    assert abs(found.completeness) < 0.2
    assert found.minimality["redundant_share"] == 0.0 and found.minimality["minimal_size"] == 4
    assert patch_agreement(result).pearson > 0.95 and 0.8 < patch_agreement(result).slope < 1.25


def test_steering_along_the_states_moves_the_action(world):
    _, model, metric = world
    tokens = torch.cat([batch.corrupt for batch in prompts_of(model, planted_pairs(6)).groups])
    values = []
    for strength in (-0.2, 0.0, 0.2):
        direction = torch.zeros(64)
        direction[AXES["state:desperate"]] = 1.0
        with steer(model.bridge, push_along(residual_site(0), direction, strength, 8.0)), torch.no_grad():
            values.append(float(metric(model.bridge(tokens)).mean()))
    assert values[0] < values[1] - 0.3 < values[2] - 0.6


def test_the_directory_is_the_same_every_time_and_holds_loadable_dictionaries(world, tmp_path):
    directory, model, _ = world
    again = write_planted_model(tmp_path / "again")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (again / name).read_bytes() == (directory / name).read_bytes()
    saes = planted_saes(tmp_path / "saes")
    for site, sae in saes.items():
        loaded = SAE.load_from_disk(str(tmp_path / "saes" / site))
        assert torch.equal(loaded.W_dec, sae.W_dec) and loaded.cfg.metadata.hook_name == site


def test_stories_hide_the_emotion_word_and_every_word_is_known(world):
    _, model, _ = world
    unknown = model.tokenizer.unk_token_id
    stories = planted_stories(20)
    assert {story.emotion for story in stories} == {"desperate", "calm", "happy", "sad", "neutral"}
    for story in stories:
        assert story.emotion not in story.text.split()
        assert unknown not in model.encode(story.text)
    assert planted_stories(5, seed=3) == planted_stories(5, seed=3) != planted_stories(5, seed=4)
