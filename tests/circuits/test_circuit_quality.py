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

import emocircuits
from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.attribution import PairBatch
from emocircuits.circuits import circuit_quality
from emocircuits.circuits.candidates import candidates_of
from emocircuits.circuits.controls import neuron_basis, random_dictionary
from emocircuits.circuits.feature_runs import FeatureRuns
from emocircuits.circuits.judge import Judge, first_of, largest_alike, log_sizes, random_alike
from emocircuits.circuits.knockouts import knockouts
from emocircuits.circuits.minimality import minimality
from emocircuits.errors import UserError
from emocircuits.interventions.ablate import ABLATIONS
from emocircuits.passes.last_position import reads_last_position
from emocircuits.sae.dictionary import open_dictionaries


@pytest.mark.parametrize("nodes", ["features", "components", "mixed"])
def test_one_function_scores_every_kind_of_circuit(nodes):
    model, saes, find, score, result = found_in(
        nodes, method="integrated_gradients", **({"max_features": 8} if nodes == "mixed" else {})
    )
    candidates = candidates_of(model, result, [score], saes)
    circuit = [candidates.names[place] for place in candidates.order()[:10]]
    found = circuit_quality(
        model, [score], difference, result, circuit, found_on=[find], saes=saes, sizes=(3,), steps=2
    )
    assert (
        found.size == 10
        and found.prompts == 5
        and found.unit == ("nodes" if nodes == "features" else "edges")
    )
    assert found.candidates == len(candidates.names) and found.curve[-1]["size"] == found.candidates
    assert found.curve[-1]["faithfulness"] == pytest.approx(1.0, abs=1e-9)
    assert {"size": 3} in [{"size": point["size"]} for point in found.curve]
    assert found.ci_low <= found.faithfulness <= found.ci_high and len(found.random["values"]) == 5
    assert (
        set(found.ablations) == {"resample", "mean", "zero"} and 0 <= found.minimality["redundant_share"] <= 1
    )
    assert found.minimality["minimal_size"] == len(found.minimality["minimal"]) <= 10
    assert len(found.minimality["losses"]) == 10 and len(found.knockouts["points"]) == 10
    others = {"neuron_basis", "random_dictionary"} if saes else set()
    assert set(found.controls) == {"magnitude", *others}
    assert all(control["size"] == 10 for control in found.controls.values())
    for scores in found.ablations.values():
        assert set(scores["curves"]) == ({"chosen", "kept", "ablated"} if saes else {"chosen"})
        assert scores["curves"]["chosen"][-1]["faithfulness"] == pytest.approx(1.0, abs=1e-9)
    if nodes == "features":
        assert all(
            scores["curves"]["kept"][-1]["faithfulness"] == pytest.approx(1.0, abs=1e-9)
            for scores in found.ablations.values()
        )
    json.dumps(found.to_dict(), allow_nan=False)
    assert "10" in repr(found) and len(repr(found)) < 300


def test_bad_questions_get_one_line():
    model, saes, find, score, result = found_in("features")
    given = {"found_on": [find], "saes": saes}
    circuit = result.nodes[:3]
    for changes, text in (
        ({"found_on": [find, score]}, "also used to find"),
        ({"random_circuits": 2}, "at least 5"),
        ({"ablation": "resampel"}, "unknown ablation"),
        ({"saes": None}, "no SAE for"),
    ):
        with pytest.raises(UserError, match=text):
            circuit_quality(model, [score], difference, result, circuit, **{**given, **changes})
    with pytest.raises(UserError, match="without members"):
        circuit_quality(model, [score], difference, result, (), **given)
    with pytest.raises(UserError, match="which the attribution does not have"):
        circuit_quality(model, [score], difference, result, ("feature/blocks.0.hook_resid_post/99",), **given)
    same = PairBatch(score.clean, score.clean, score.index)
    with pytest.raises(UserError, match="the same with everything and with nothing"):
        circuit_quality(model, [same], difference, result, circuit, **given)
    assert sum(len(point.fwd_hooks) for point in model.hook_dict.values()) == 0


def test_feature_runs_equal_plain_ablation_for_any_metric_and_site():
    """Shared passes, resumed blocks and the last position alone against one hooked pass per circuit, in
    float64.
    """
    model, _, _, score, _ = found_in("features")
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
        runs = FeatureRuns(model, open_dictionaries(sites), batches, measure, max_tokens=40)
        plain = [
            runs._in_one_pass(streams, masks, ABLATIONS.get(ablation)).numpy() for streams in runs._streams()
        ]
        np.testing.assert_allclose(
            runs.metric(masks, ablation),
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
    assert not FeatureRuns(model, open_dictionaries(sites), [shorter, score], fifth)._last_only


def planted_judge(name, extra=()):
    """A hand-set model judged on prompts of its own with another first word; the circuit is the truth and
    some junk.
    """
    planted = ALL[name]()
    score = PairBatch(planted.batch.clean.clone(), planted.batch.corrupt.clone(), planted.batch.index)
    score.clean[:, 0] = score.corrupt[:, 0] = 1
    result = emocircuits.attribute(
        planted.model, planted.batch.clean, planted.batch.corrupt, metric, nodes="components", method="exact"
    )
    candidates = candidates_of(planted.model, result, [score])
    judge = Judge.open(candidates, candidates.on([score], metric))
    return judge, candidates.choice({*planted.truth, *extra}), planted


def test_what_is_superfluous_is_found_and_nothing_else():
    junk = (("embed", "a0.h0<q>"), ("a0.h0", "logits"), ("a0.h0", "a1.h1<v>"))
    judge, choice, planted = planted_judge("gate", junk)
    found = minimality(judge, choice)
    assert found["redundant_share"] == pytest.approx(3 / 8)
    assert set(found["minimal"]) == {f"{source} -> {slot}" for source, slot in planted.truth}
    assert found["minimal_faithfulness"] == pytest.approx(1.0)
    tight, _, _ = planted_judge("gate")
    assert minimality(tight, tight.candidates.choice(planted.truth))["minimal_size"] == len(planted.truth)


def test_a_circuit_without_its_backup_fails_where_the_model_does_not():
    """`either`: each of two heads is enough. With both in the circuit it breaks as the model does, with one
    it does not.
    """
    judge, whole, planted = planted_judge("either")
    assert knockouts(judge, whole)["largest_gap"] < 1e-3
    half = judge.candidates.choice([edge for edge in planted.truth if "h3" not in edge[0] + edge[1]])
    found = knockouts(judge, half)
    assert judge.f(judge.values(half[None]))[0] > 0.99 and found["largest_gap"] > 0.99
    assert all(
        point["circuit"] < 1e-3 and (point["model"] < 1e-3 or point["model"] > 0.99)
        for point in found["points"]
    )


def test_random_and_large_circuits_match_the_groups():
    model, saes, find, score, result = found_in("features")
    candidates = candidates_of(model, result, [score], saes)
    choice = first_of(candidates.order(), [12], len(candidates.names))[0]
    drawn = [random_alike(candidates, choice, draw=draw) for draw in range(4)]
    for one in drawn:
        assert np.array_equal(
            np.bincount(candidates.groups[one], minlength=3),
            np.bincount(candidates.groups[choice], minlength=3),
        )
    assert len({one.tobytes() for one in drawn}) == 4 and np.array_equal(
        drawn[2], random_alike(candidates, choice, draw=2)
    )
    strength = candidates.magnitudes([find], difference)
    largest = largest_alike(candidates, choice, strength)
    assert largest.sum() == 12 and strength[largest].min() >= min(
        strength[candidates.groups == group].min() for group in range(3)
    )
    for group in range(3):
        here = candidates.groups == group
        assert strength[here & largest].min() >= strength[here & ~largest].max()
    assert log_sizes(1, 5) == [1] and log_sizes(100, 3) == [1, 10, 100] and log_sizes(0, 3) == []


def test_magnitudes_are_the_lengths_of_what_changes():
    model, saes, find, score, result = found_in("features")
    candidates = candidates_of(model, result, [score], saes)
    _, clean = model.run_with_cache(find.clean)
    _, corrupt = model.run_with_cache(find.corrupt)
    site, sae = next(iter(saes.items()))
    change = sae.encode(clean[site]) - sae.encode(corrupt[site])
    lengths = (change.abs().sum(1).mean(0) * open_dictionaries(saes)[site].decoder.norm(dim=1)).tolist()
    found = dict(zip(candidates.names, candidates.magnitudes([find], difference), strict=True))
    assert all(
        found[name] == pytest.approx(lengths[feature], abs=1e-9)
        for feature in range(24)
        if (name := f"feature/{site}/{feature}") in found
    )


def test_other_dictionaries_are_what_they_say():
    model, saes, find, _, _ = found_in("features")
    _, cache = model.run_with_cache(find.clean)
    for site, dictionary in open_dictionaries(saes).items():
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
    model, _, _, score, result = found_in("components", edges=False)
    with pytest.raises(UserError, match="without edges"):
        candidates_of(model, result, [score])
    one = AttributionResult(
        "b", ("feature/blocks.0.hook_resid_post/1/p2",), np.ones((2, 1)), np.ones(2), np.zeros(2), {}, 1
    )
    with pytest.raises(UserError, match="positions"):
        candidates_of(model, one, [score])
