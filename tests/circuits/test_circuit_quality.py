"""The quality of feature, component and mixed circuits: complete, held out, and right where the answer is
known.
"""

import json

import numpy as np
import pytest
import torch
from circuits.circuit_world import found_in, systematic
from planted.hand_set import ALL, metric
from planted.paper_model import difference, random_saes
from planted.tasks import task_of

import emocircuits
from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.circuits.candidates import Candidates
from emocircuits.circuits.controls import neuron_basis, random_dictionary
from emocircuits.circuits.knockouts import knockouts
from emocircuits.circuits.minimality import minimality
from emocircuits.circuits.quality import QualitySettings, circuit_quality
from emocircuits.circuits.scorer import FaithfulnessScorer, first_of, largest_alike, log_sizes, random_alike
from emocircuits.errors import UserError
from emocircuits.graphs.feature_circuits import FeatureCircuits
from emocircuits.interventions.ablate import ABLATIONS
from emocircuits.passes.metric import reads_last_position
from emocircuits.passes.prompt_pairs import PairBatch, PromptPairs


@pytest.mark.parametrize("nodes", ["features", "components", "mixed"])
def test_one_function_scores_every_kind_of_circuit(nodes):
    find, score, result = found_in(
        nodes, method="integrated_gradients", **({"max_features": 8} if nodes == "mixed" else {})
    )
    candidates = Candidates.of(result, find)
    items = candidates.graph.items
    circuit = [items[place] for place in candidates.graph.order(candidates.effects)[:10]]
    found = circuit_quality(circuit, result, score, find, QualitySettings(sizes=(3,), steps=2))
    assert (
        found.size == 10
        and found.prompts == 5
        and found.unit == ("nodes" if nodes == "features" else "edges")
    )
    assert found.candidates == len(items) and found.curve[-1]["size"] == found.candidates
    assert found.curve[-1]["faithfulness"] == pytest.approx(1.0, abs=1e-9)
    assert {"size": 3} in [{"size": point["size"]} for point in found.curve]
    assert found.ci_low <= found.faithfulness <= found.ci_high and len(found.random["values"]) == 5
    assert (
        set(found.ablations) == {"resample", "mean", "zero"} and 0 <= found.minimality["redundant_share"] <= 1
    )
    assert found.minimality["minimal_size"] == len(found.minimality["minimal"]) <= 10
    assert len(found.minimality["losses"]) == 10 and len(found.knockouts["points"]) == 10
    others = {"neuron_basis", "random_dictionary"} if find.saes else set()
    assert set(found.controls) == {"magnitude", *others}
    assert all(control["size"] == 10 for control in found.controls.values())
    for scores in found.ablations.values():
        assert set(scores["curves"]) == ({"chosen", "kept", "ablated"} if find.saes else {"chosen"})
        assert scores["curves"]["chosen"][-1]["faithfulness"] == pytest.approx(1.0, abs=1e-9)
    if nodes == "features":
        assert all(
            scores["curves"]["kept"][-1]["faithfulness"] == pytest.approx(1.0, abs=1e-9)
            for scores in found.ablations.values()
        )
    json.dumps(found.to_dict(), allow_nan=False)
    assert "10" in repr(found) and len(repr(found)) < 300


def test_bad_questions_get_one_line():
    find, score, result = found_in("features")
    circuit = result.nodes[:3]
    both = find.on(PromptPairs((*find.prompts.groups, *score.prompts.groups)))
    for found_on, text in ((both, "also used to find"), (find.with_saes({}), "no SAE for")):
        with pytest.raises(UserError, match=text):
            circuit_quality(circuit, result, score, found_on)
    for settings, text in (
        ({"random_circuits": 2}, "at least 5"),
        ({"ablation": "resampel"}, "unknown ablation"),
    ):
        with pytest.raises(UserError, match=text):
            QualitySettings(**settings)
    with pytest.raises(UserError, match="without members"):
        circuit_quality((), result, score, find)
    with pytest.raises(UserError, match="which the attribution does not have"):
        circuit_quality(("feature/blocks.0.hook_resid_post/99",), result, score, find)
    with pytest.raises(UserError, match="the same with all and with nothing"):
        circuit_quality(circuit, result, score.on(score.prompts.side("clean")), find)
    assert sum(len(point.fwd_hooks) for point in find.model.hook_dict.values()) == 0


def test_feature_circuits_equal_plain_ablation_for_any_metric_and_site():
    """Shared passes, resumed blocks and the last position alone against one hooked pass per circuit, in
    float64.
    """
    model, score = found_in("features")[0].model, systematic(5, 7, start=20)
    batches, source = [score, systematic(3, 5, start=40)], np.random.default_rng(0)

    def everywhere(logits):
        return (logits[..., 3] - logits[..., 5]).mean(1)

    def by_prompt(logits, index):
        return difference(logits) * (1 + index)

    plain_sites, mixed_sites = ("resid_post",) * 3, ("resid_pre", "resid_mid", "attn_out")
    for names, measure, ablation in [
        (plain_sites, difference, "mean"),
        (plain_sites, everywhere, "resample"),
        (plain_sites, by_prompt, "zero"),
        (mixed_sites, difference, "resample"),
    ]:
        sites = {
            f"blocks.{layer}.hook_{name}": sae
            for layer, (name, sae) in enumerate(zip(names, random_saes("topk", 3, 12).values(), strict=True))
        }
        for site, sae in sites.items():
            sae.cfg.metadata.hook_name = site
        same = torch.from_numpy(source.random((6, 24)) < 0.5)
        masks = {
            site: (
                same if number == 0 else torch.from_numpy(source.random((6, 24)) < 0.2 + 0.3 * number),
                torch.from_numpy(source.random(6) < 0.5),
            )
            for number, site in enumerate(sites)
        }
        runner = FeatureCircuits(task_of(model, batches, measure, sites, max_tokens=40), ())
        plain = [
            runner._in_one_pass(streams, masks, ABLATIONS.get(ablation)).numpy()
            for streams in runner._own_streams()
        ]
        np.testing.assert_allclose(
            runner.run_masks(masks, ablation),
            np.concatenate(plain, axis=1),
            atol=1e-9,
            err_msg=f"{names} {ablation}",
        )
    assert reads_last_position(model, difference, 8, score.index) and reads_last_position(
        model, by_prompt, 8, score.index
    )
    assert not reads_last_position(model, everywhere, 8, score.index)
    assert not reads_last_position(model, lambda logits: logits[:, 4, 3], 8, score.index)
    # the fifth position, or the last of shorter prompts, is the last one of one batch only: every length is
    # asked
    shorter = PairBatch(score.clean[:, :5], score.corrupt[:, :5], score.index)

    def fifth(logits):
        return logits[:, min(4, logits.shape[1] - 1), 3]

    assert reads_last_position(model, fifth, 5, shorter.index) and not reads_last_position(
        model, fifth, 8, score.index
    )
    both = [shorter, PairBatch(score.clean, score.corrupt, score.index + 5)]
    assert not FeatureCircuits(task_of(model, both, fifth, sites), ())._last_only


def planted_scorer(name, extra=()):
    """A hand-set model scored on prompts of its own with another first word; the circuit is the truth and
    some junk.
    """
    planted = ALL[name]()
    score = PairBatch(planted.batch.clean.clone(), planted.batch.corrupt.clone(), planted.batch.index)
    score.clean[:, 0] = score.corrupt[:, 0] = 1
    task = task_of(planted.model, planted.batch, metric)
    candidates = Candidates.of(emocircuits.attribute(task, nodes="components", method="exact"), task)
    scorer = FaithfulnessScorer.open(candidates, candidates.graph.runner(task.on(PromptPairs((score,)))))
    return scorer, candidates.choice({*planted.truth, *extra}), planted


def test_what_is_superfluous_is_found_and_nothing_else():
    junk = (("embed", "a0.h0<q>"), ("a0.h0", "logits"), ("a0.h0", "a1.h1<v>"))
    scorer, choice, planted = planted_scorer("gate", junk)
    found = minimality(scorer, choice)
    assert found["redundant_share"] == pytest.approx(3 / 8)
    assert set(found["minimal"]) == {f"{source} -> {slot}" for source, slot in planted.truth}
    assert found["minimal_faithfulness"] == pytest.approx(1.0)
    tight, _, _ = planted_scorer("gate")
    assert minimality(tight, tight.candidates.choice(planted.truth))["minimal_size"] == len(planted.truth)


def test_a_circuit_without_its_backup_fails_where_the_model_does_not():
    """`either`: each of two heads is enough. With both in the circuit it breaks as the model does, with one
    it does not.
    """
    scorer, whole, planted = planted_scorer("either")
    assert knockouts(scorer, whole)["largest_gap"] < 1e-3
    half = scorer.candidates.choice([edge for edge in planted.truth if "h3" not in edge[0] + edge[1]])
    found = knockouts(scorer, half)
    assert scorer.f(scorer.values(half[None]))[0] > 0.99 and found["largest_gap"] > 0.99
    assert all(
        point["circuit"] < 1e-3 and (point["model"] < 1e-3 or point["model"] > 0.99)
        for point in found["points"]
    )


def test_random_and_large_circuits_match_the_groups():
    find, _, result = found_in("features")
    candidates, graph = Candidates.of(result, find), Candidates.of(result, find).graph
    choice = first_of(graph.order(candidates.effects), [12], len(graph.items))[0]
    drawn = [random_alike(candidates, choice, draw=draw) for draw in range(4)]
    for one in drawn:
        assert np.array_equal(
            np.bincount(graph.groups[one], minlength=3),
            np.bincount(graph.groups[choice], minlength=3),
        )
    assert len({one.tobytes() for one in drawn}) == 4 and np.array_equal(
        drawn[2], random_alike(candidates, choice, draw=2)
    )
    strength = graph.magnitudes()
    largest = largest_alike(candidates, choice, strength)
    assert largest.sum() == 12 and strength[largest].min() >= min(
        strength[graph.groups == group].min() for group in range(3)
    )
    for group in range(3):
        here = graph.groups == group
        assert strength[here & largest].min() >= strength[here & ~largest].max()
    assert log_sizes(1, 5) == [1] and log_sizes(100, 3) == [1, 10, 100] and log_sizes(0, 3) == []


def test_magnitudes_are_the_lengths_of_what_changes():
    find, _, result = found_in("features")
    graph, (pairs,) = Candidates.of(result, find).graph, find.prompts.groups
    _, clean = find.model.run_with_cache(pairs.clean)
    _, corrupt = find.model.run_with_cache(pairs.corrupt)
    site, sae = next(iter(find.saes.items()))
    change = sae.encode(clean[site]) - sae.encode(corrupt[site])
    lengths = (change.abs().sum(1).mean(0) * sae.decoder.norm(dim=1)).tolist()
    found = dict(zip(graph.items, graph.magnitudes(), strict=True))
    assert all(
        found[name] == pytest.approx(lengths[feature], abs=1e-9)
        for feature in range(24)
        if (name := f"feature/{site}/{feature}") in found
    )


def test_other_dictionaries_are_what_they_say():
    find, _, _ = found_in("features")
    _, cache = find.model.run_with_cache(find.prompts.groups[0].clean)
    for site, dictionary in find.dictionaries.items():
        x = cache[site]
        plain, drawn = neuron_basis(dictionary), random_dictionary(dictionary, x)
        assert torch.equal(plain.encode(x), x) and torch.allclose(plain.decode(x), x)
        torch.testing.assert_close(drawn.decoder.norm(dim=1), dictionary.decoder.norm(dim=1))
        assert (torch.nn.functional.cosine_similarity(drawn.decoder, dictionary.decoder) < 0.95).all()
        active = (drawn.encode(x) != 0).sum(-1)
        assert active.max() <= round(float((dictionary.encode(x) != 0).sum(-1).double().mean()))
        scaled = [
            (x - drawn.decoder_bias - factor * (drawn.encode(x) @ drawn.decoder)).square().sum()
            for factor in (0.9, 1.0, 1.1)
        ]
        assert scaled[1] <= min(scaled[0], scaled[2])
        assert not torch.equal(random_dictionary(dictionary, x, seed=1).decoder, drawn.decoder)


def test_component_results_need_their_edges():
    find, _, result = found_in("components", edges=False)
    with pytest.raises(UserError, match="without edges"):
        Candidates.of(result, find)
    one = AttributionResult(
        "b", ("feature/blocks.0.hook_resid_post/1/p2",), np.ones((2, 1)), np.ones(2), np.zeros(2), {}, 1
    )
    with pytest.raises(UserError, match="positions"):
        Candidates.of(one, find)
