"""What attribution refuses, what a metric may be, and that results are ordered by the prompts' index."""

import copy

import numpy as np
import pytest
import torch
from planted.paper_model import difference, random_batch, random_model, random_saes
from planted.tasks import task_of

import emocircuits
from emocircuits.attribution.attribute import attribute
from emocircuits.attribution.methods import METHODS
from emocircuits.attribution.methods.exact import patched_nodes
from emocircuits.circuits.choose import with_edges
from emocircuits.errors import Failure, UserError
from emocircuits.passes.prompt_pairs import PairBatch, PromptPairs


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    return random_model(), random_saes("topk", 3, 12), random_batch()


def test_pairs_of_different_length_are_refused():
    with pytest.raises(UserError, match="mean, zero or resample ablation"):
        PairBatch(torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 4, dtype=torch.long), torch.arange(2))
    with pytest.raises(UserError, match="pair 1 has 2 clean and 3 corrupt"):
        PromptPairs.of_tokens([([1, 2], [3, 4]), ([1, 2], [3, 4, 5])])
    pairs = PromptPairs.of_tokens([([1, 2, 3], [3, 4, 5]), ([1, 2], [3, 4]), ([7, 8, 9], [3, 4, 5])])
    assert [group.index.tolist() for group in pairs.groups] == [[1], [0, 2]]


@pytest.mark.parametrize(
    ("metric", "error", "text"),
    [
        (lambda logits: difference(logits).mean(), UserError, "one value per prompt"),
        (lambda logits: logits[:, -1], UserError, "one value per prompt"),
        (lambda logits: 3.0, UserError, "one value per prompt"),
        (lambda logits: difference(logits).detach(), UserError, "no gradient"),
        (lambda logits: logits[:, -1].argmax(-1).double(), UserError, "no gradient"),
        (lambda logits: difference(logits) * float("nan"), Failure, "NaN"),
        (
            lambda logits: (difference(logits) - difference(logits)).sqrt(),
            Failure,
            "gradient of the metric at blocks.0",
        ),
    ],
)
def test_metrics_that_cannot_be_attributed_are_refused(world, metric, error, text):
    model, saes, batch = world
    with pytest.raises(error, match=text):
        attribute(task_of(model, batch, metric, saes), edges=False)
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


def test_a_metric_with_a_second_argument_gets_the_index(world):
    model, saes, batch = world
    sign = torch.tensor([1.0, -1.0, 2.0, 0.5, -3.0], dtype=torch.float64)
    plain = attribute(task_of(model, batch, difference, saes), edges=False)
    shuffled = [batch.rows(torch.tensor([3, 1])), batch.rows(torch.tensor([4, 0, 2]))]
    signed = attribute(
        task_of(model, shuffled, lambda logits, index: difference(logits) * sign[index], saes), edges=False
    )
    assert signed.nodes == plain.nodes
    np.testing.assert_allclose(signed.effects, plain.effects * sign.numpy()[:, None], atol=1e-12)
    nodes = plain.nodes[:4]
    exact = patched_nodes(
        task_of(model, shuffled, lambda logits, index: difference(logits) * sign[index], saes), nodes
    )
    unsigned = patched_nodes(task_of(model, batch, difference, saes), nodes)
    np.testing.assert_allclose(exact.effects, unsigned.effects * sign.numpy()[:, None], atol=1e-12)
    optional = attribute(
        task_of(model, batch, lambda logits, lengths=None: difference(logits), saes), edges=False
    )
    np.testing.assert_allclose(optional.effects, plain.effects, atol=1e-12)


def test_wrong_nodes_and_prompts_are_refused(world):
    model, saes, batch = world
    with pytest.raises(UserError, match="outside its SAE"):
        patched_nodes(task_of(model, batch, difference, saes), ["feature/blocks.0.hook_resid_post/24"])
    with pytest.raises(UserError, match="without SAE"):
        patched_nodes(task_of(model, batch, difference, saes), ["error/blocks.7.hook_resid_post"])
    task = task_of(model, batch, difference, saes)
    with pytest.raises(UserError, match="not in the attribution result"):
        with_edges(attribute(task, edges=False), task, ["feature/blocks.0.hook_resid_post/24"])
    with pytest.raises(UserError, match="expected feature and error nodes"):
        patched_nodes(task_of(model, batch, difference, saes), ["logits"])
    with pytest.raises(UserError, match="share an index"):
        task_of(model, [batch, batch], difference, saes)
    with pytest.raises(UserError, match="no prompt pair"):
        task_of(model, [], difference, saes)
    same = PairBatch(batch.clean, batch.clean, batch.index)
    with pytest.raises(UserError, match="no node differs"):
        attribute(task_of(model, same, difference, saes), edges=False)


def test_an_sae_of_another_width_is_refused(world):
    with pytest.raises(UserError, match="d_in 8"):
        attribute(task_of(world[0], world[2], difference, random_saes("topk", 1, 8)), edges=False)


def test_an_sae_of_another_site_is_refused(world):
    model, saes, batch = world
    first = saes["blocks.0.hook_resid_post"]
    with pytest.raises(UserError, match="trained on blocks.0.hook_resid_post; give it under its own site"):
        attribute(task_of(model, batch, difference, {"blocks.1.hook_resid_post": first}), edges=False)
    beyond = copy.deepcopy(first)
    beyond.cfg.metadata.hook_name = "blocks.9.hook_resid_post"
    with pytest.raises(UserError, match="no hook blocks.9.hook_resid_post"):
        attribute(task_of(model, batch, difference, {"blocks.9.hook_resid_post": beyond}), edges=False)


def test_saes_without_an_active_feature_are_refused(world):
    model, _, batch = world
    dead = random_saes("topk", 2, 12)
    for sae in dead.values():
        sae.b_enc.data -= 1e6
    with pytest.raises(
        UserError,
        match="no feature of the SAEs at blocks.0.hook_resid_post, blocks.1.hook_resid_post differs",
    ):
        attribute(task_of(model, batch, difference, dead), edges=False)


def test_a_budget_that_buys_nothing_is_refused(world):
    model, saes, batch = world
    for nodes in ("components", "features"):
        with pytest.raises(UserError, match="budget"):
            emocircuits.attribute(
                model,
                batch.clean,
                batch.corrupt,
                difference,
                nodes=nodes,
                saes=saes,
                method="verified",
                budget=2,
            )


def test_negating_the_metric_flips_and_permuting_features_permutes(world):
    model, saes, batch = world
    plain = attribute(task_of(model, batch, difference, saes), edges=False)
    flipped = attribute(task_of(model, batch, lambda logits: -difference(logits), saes), edges=False)
    np.testing.assert_allclose(flipped.effects, -plain.effects, atol=1e-12)
    site, permutation = "blocks.1.hook_resid_post", torch.randperm(24)
    turned = random_saes("topk", 3, 12)[site]
    with torch.no_grad():
        turned.W_enc.copy_(saes[site].W_enc[:, permutation])
        turned.W_dec.copy_(saes[site].W_dec[permutation])
        turned.b_enc.copy_(saes[site].b_enc[permutation])
        turned.b_dec.copy_(saes[site].b_dec)
    found = attribute(task_of(model, batch, difference, {**saes, site: turned}), edges=False)
    before = dict(zip(plain.nodes, plain.effects.T, strict=True))
    after = dict(zip(found.nodes, found.effects.T, strict=True))
    assert len(before) == len(after)
    for number, old in enumerate(permutation.tolist()):
        pair = after.get(f"feature/{site}/{number}"), before.get(f"feature/{site}/{old}")
        assert (pair[0] is None) == (pair[1] is None)
        if pair[0] is not None:
            np.testing.assert_allclose(*pair, atol=1e-12)


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_gives_finite_effects_of_known_nodes(world, name):
    model, saes, batch = world
    result = attribute(task_of(model, batch, difference, saes, behaviour="b"), method=name, edges=False)
    assert result.behaviour == "b" and result.conventions["method"] == name and result.passes >= 2
    assert np.isfinite(result.effects).all() and np.abs(result.effects).max() > 0
    assert result.effects.shape == (5, len(result.nodes))
    difference_on = [difference(model(tokens)).numpy() for tokens in (batch.clean, batch.corrupt)]
    if name == "steering":  # its other side is the corrupt prompt with the push
        assert np.abs(result.metric_clean - result.metric_corrupt).min() > 0
    else:
        np.testing.assert_allclose(result.metric_clean, difference_on[0], atol=1e-10)
    np.testing.assert_allclose(result.metric_corrupt, difference_on[1], atol=1e-10)
