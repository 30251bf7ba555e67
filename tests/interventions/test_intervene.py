"""Edits next to held parts, in cached generation, and what is refused."""

import pytest
import torch
from planted.paper_model import (
    CLEAN,
    CORRUPT,
    SITES,
    P,
    paper_metric,
    paper_model,
    paper_saes,
    random_batch,
    random_model,
)
from transformer_lens.model_bridge import TransformerBridge

from emocircuits.errors import Failure, UserError
from emocircuits.interventions.edits import ablate, add, clamp, freeze, scale
from emocircuits.interventions.generate import sample
from emocircuits.interventions.intervene import intervene

PLAN, SUM = f"feature/{SITES[1]}/{P}", f"error/{SITES[1]}"


CLEAN_TOKENS, CORRUPT_TOKENS = torch.tensor([CLEAN]), torch.tensor([CORRUPT])


def metric_of(tokens, *edits, **options) -> float:
    model = paper_model()
    with intervene(model, edits, saes=paper_saes(), **options):
        return float(paper_metric(model(tokens)))


def test_with_patterns_norms_and_mlps_held_the_model_answers_linearly():
    torch.manual_seed(0)
    model, tokens = random_model(), random_batch(3).clean
    vector, narrow = torch.randn(12, dtype=torch.float64), torch.randn(4, dtype=torch.float64)

    def change(*edits, hold=("patterns", "norms", "mlps")) -> torch.Tensor:
        kept = []
        with model.hooks([(SITES[2], lambda value, hook: kept.append(value))]):
            model(tokens)
            with intervene(model, edits, hold=hold, tokens=tokens):
                model(tokens)
        return kept[1] - kept[0]

    one, two, other = change(add("m0", vector)), change(add("m0", 2 * vector)), change(add("a1.h2", narrow))
    torch.testing.assert_close(two, 2 * one)
    torch.testing.assert_close(change(add("m0", vector), add("a1.h2", narrow)), one + other)
    free = [change(add("m0", factor * vector), hold=()) for factor in (1, 2)]
    assert (free[1] - 2 * free[0]).abs().max() > 0.01 * free[0].abs().max()


@pytest.mark.parametrize("hold", [(), ("patterns", "norms")])
def test_a_cached_generation_is_edited_like_whole_prompts(hold):
    torch.manual_seed(0)
    model = TransformerBridge.boot_native(
        dict(
            d_model=12, d_head=4, n_heads=3, n_layers=3, n_ctx=16, d_vocab=17, d_mlp=20, act_fn="gelu", seed=0
        ),
        device="cpu",
    )
    for parameter in model.parameters():
        parameter.data.normal_(std=0.5)
    tokens, vector = random_batch(3).clean, 2 * torch.randn(12)
    edits = [add("m1", vector, slice(3, None)), ablate("a1.h1")]
    plain = sample(model, tokens, 6, seed=1)
    written = []
    for cache in (True, False):
        with intervene(model, edits, hold=hold, tokens=tokens):
            written.append(sample(model, tokens, 6, seed=1, cache=cache))
    assert torch.equal(*written) and not torch.equal(written[0], plain)
    with intervene(model, [add("m1", vector, "generated")]):
        after = sample(model, tokens, 6, seed=1)
    # the prompt itself is left alone
    assert torch.equal(after[:, :1], plain[:, :1]) and not torch.equal(after, plain)
    assert torch.equal(sample(model, tokens, 6, seed=1), plain)


@pytest.mark.parametrize(
    ("edits", "options", "text"),
    [
        ([], {}, "no edit was given"),
        ([clamp(f"feature/{SITES[1]}/99", 1.0)], {}, "outside its SAE"),
        ([clamp("feature/blocks.9.hook_resid_post/0", 1.0)], {}, "no SAE for the site"),
        ([ablate("m7")], {}, "a block below 3"),
        ([ablate("a0.h5")], {}, "a head below 1"),
        ([ablate(PLAN, "mean")], {}, "nothing to take the baseline"),
        ([clamp(PLAN, 1.0)], {"hold": ("patterns",)}, "nothing to hold patterns to"),
        ([clamp(PLAN, 1.0)], {"hold": ("paterns",), "tokens": CLEAN_TOKENS}, "unknown part to hold"),
        ([clamp(PLAN, torch.ones(3))], {}, "has shape"),
        ([freeze(PLAN, torch.ones(2, 6))], {}, r"have shape \(2, 6\)"),
    ],
)
def test_what_the_model_or_the_saes_do_not_have_is_refused_and_no_hook_stays(edits, options, text):
    model = paper_model()
    with pytest.raises(UserError, match=text), intervene(model, edits, saes=paper_saes(), **options):
        model(CLEAN_TOKENS)
    assert sum(len(point.fwd_hooks) for point in model.hook_dict.values()) == 0


def test_an_edit_that_changes_nothing_is_an_error_unless_it_says_so():
    with pytest.raises(Failure, match="ran and changed nothing"):
        metric_of(CLEAN_TOKENS, clamp(PLAN, 10.0, [5]))  # it holds 10 there
    assert metric_of(CLEAN_TOKENS, scale(PLAN, 1.0)) == pytest.approx(28.5)
    assert metric_of(CLEAN_TOKENS, clamp(PLAN, 10.0, [5]), must_change=False) == pytest.approx(28.5)
