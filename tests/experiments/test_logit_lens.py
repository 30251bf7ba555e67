"""The logit lens against derivatives by autograd, and its direct part against norm and unembedding
by hand.
"""

import numpy as np
import pytest
import torch
from experiments.tiny_world import tiny_directions, tiny_model

from emocircuits.errors import UserError
from emocircuits.experiments.logit_lens import PARTS, LogitLens, lens_summary, lens_table, logit_lens
from emocircuits.models import FAMILIES

NAMES = ("calm", "sad", "desperate")


def world(path, family="llama"):
    model = tiny_model(path, family, words=NAMES)
    directions = tiny_directions(model, NAMES)
    source = np.random.default_rng(0)
    return model, directions, [source.integers(3, model.d_vocab, length).tolist() for length in (5, 8, 5)]


def derivative(model, tokens, site, push, everywhere):
    """d logits(last) / d strength, by autograd through the model's own hooks."""
    strength = torch.zeros((), requires_grad=True)

    def add(value, hook):
        mask = torch.ones_like(value[..., :1])
        if not everywhere:
            mask[:, :-1] = 0
        return value + mask * strength * push

    with torch.enable_grad(), model.bridge.hooks(fwd_hooks=[(site, add)]):
        logits = model.bridge(torch.tensor([tokens]))[0, -1]
        rows = [
            torch.autograd.grad(logits[token], strength, retain_graph=True)[0] for token in range(len(logits))
        ]
    found = torch.stack(rows).double().numpy()
    return found - found.mean()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_both_parts_equal_derivatives(tmp_path, family):
    model, directions, prompts = world(tmp_path, family)
    site, last, norm = model.sites[1], model.sites[-1], 4.0
    chosen = directions.with_controls(NAMES[:2], site=site, kinds=("random",))
    assert {direction.residual_norm for direction in chosen} == {norm}
    lens = logit_lens(model, chosen, prompts, strength=0.002, batch_tokens=40)
    for place in (0, 3):
        push = norm * torch.from_numpy(chosen[place].vector)
        total = np.mean([derivative(model, tokens, site, push, True) for tokens in prompts], axis=0)
        direct = np.mean([derivative(model, tokens, last, push, False) for tokens in prompts], axis=0)
        scale = np.abs(total).max()
        np.testing.assert_allclose(lens.total[place], total, atol=0.02 * scale)
        np.testing.assert_allclose(lens.direct[place], direct, atol=0.02 * scale)
        np.testing.assert_allclose(lens.part("later")[place], total - direct, atol=0.03 * scale)
        assert np.corrcoef(lens.part("later")[place], total - direct)[0, 1] > 0.999
    assert lens.n_prompts == 3 and abs(lens.total.mean()) < 1e-4


@pytest.mark.parametrize("family", FAMILIES.names())
def test_at_the_last_site_everything_is_direct(tmp_path, family):
    model, directions, prompts = world(tmp_path, family)
    chosen = directions.with_controls(NAMES, site=model.sites[-1], kinds=())
    lens = logit_lens(model, chosen, prompts)
    np.testing.assert_allclose(lens.part("later"), 0, atol=1e-3 * np.abs(lens.total).max())


def test_tables(tmp_path):
    model, directions, _ = world(tmp_path)
    d_vocab = model.d_vocab
    own = [model.single_token(name) for name in NAMES]
    total = np.random.default_rng(0).standard_normal((4, d_vocab)).astype(np.float32)
    direct = np.zeros((4, d_vocab), np.float32)
    total[0, own[0]], direct[0, own[1]], direct[1, 5] = 50.0, 9.0, 7.0
    lens = LogitLens((*NAMES, "random 0"), ("emotion",) * 3 + ("random",), total, direct, 2)
    table = lens_table(lens, model, top=4)
    assert len(table) == 4 * len(PARTS) * 2 * 4
    first = table[(table.direction == "calm") & (table.part == "total") & (table.end == "top")].iloc[0]
    assert (first["rank"], first.token_id, first.token.strip(), first.total) == (1, own[0], "calm", 50.0)
    assert first.direct == 0 and first.later == 50.0
    bottom = table[(table.direction == "sad") & (table.part == "total") & (table.end == "bottom")]
    np.testing.assert_array_equal(bottom.token_id, np.argsort(total[1])[:4])
    few = lens_table(lens, model, top=10, among=own)
    assert set(few.token_id) == set(own) and len(few) == 4 * len(PARTS) * 2 * 3
    summary = lens_summary(lens, model).set_index("direction")
    assert (
        summary.loc["calm", "own_rank_total"] == 1
        and summary.loc["calm", "own_rank_direct"] == 3
        and summary.loc["calm", "n_names"] == 3
    )
    assert summary.loc["calm", "own_z_total"] == pytest.approx(
        50 / np.sqrt((total[0].astype(float) ** 2).mean()), rel=1e-5
    )
    assert np.isnan(summary.loc["random 0", "own_rank_total"]) and summary.loc["random 0", "direct_sd"] == 0
    assert summary.loc["sad", "r_direct_total"] == pytest.approx(
        np.corrcoef(total[1], direct[1])[0, 1], abs=1e-5
    )
    with pytest.raises(UserError, match="unknown part of the logit lens 'all'"):
        lens.part("all")


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"directions": ()}, "0 directions"),
        ({"prompts": []}, "0 prompts"),
        ({"strength": 3.0}, "small fraction"),
        ({"strength": 0.0}, "small fraction"),
    ],
)
def test_bad_input(tmp_path, changes, word):
    model, directions, prompts = world(tmp_path)
    chosen = directions.with_controls(NAMES, site=model.sites[0], kinds=())
    arguments = {"directions": chosen, "prompts": prompts} | changes
    with pytest.raises(UserError, match=word):
        logit_lens(model, **arguments)
