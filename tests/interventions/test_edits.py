"""Edits of a running model: the paper model by hand, linearity where all is held, caches, bad input, and
predicted next to real.
"""

import pytest
import torch
from planted.paper_model import (
    CLEAN,
    CORRUPT,
    SITES,
    P,
    paper_batch,
    paper_metric,
    paper_model,
    paper_saes,
)
from planted.tasks import task_of

from emocircuits.attribution.attribute import attribute
from emocircuits.circuits.predicted import TOGETHER, predicted_effect
from emocircuits.errors import UserError
from emocircuits.interventions.edits import Edit, ablate, add, clamp, freeze, scale
from emocircuits.interventions.intervene import intervene, node_values

PLAN, SUM = f"feature/{SITES[1]}/{P}", f"error/{SITES[1]}"


CLEAN_TOKENS, CORRUPT_TOKENS = torch.tensor([CLEAN]), torch.tensor([CORRUPT])


def metric_of(tokens, *edits, **options) -> float:
    model = paper_model()
    with intervene(model, edits, saes=paper_saes(), **options):
        return float(paper_metric(model(tokens)))


@pytest.mark.parametrize(
    ("tokens", "edit", "expected"),
    [
        (CORRUPT_TOKENS, clamp(PLAN, 10.0), 26.5),  # a = 3 (10 - 1)
        (CORRUPT_TOKENS, add(PLAN, 1.0), 5.5),  # p = 3
        (CLEAN_TOKENS, scale(PLAN, 2.0), 58.5),  # p = 20
        (CLEAN_TOKENS, scale(PLAN, 0.0), 1.5),  # only s/2 is left
        (CLEAN_TOKENS, ablate(PLAN), 1.5),
        (CLEAN_TOKENS, ablate("m1"), 1.5),
        (CLEAN_TOKENS, ablate("a0.h0"), 9.0),  # s = 0: p = 4, a = 9
        (CLEAN_TOKENS, ablate("a0.h0<v>"), 9.0),
        (CORRUPT_TOKENS, ablate(SUM), 3.0),  # k is what the middle SAE does not know
        (CLEAN_TOKENS, scale(PLAN, 0.0, [5]), 1.5),  # the metric reads the last position
        (CLEAN_TOKENS, scale(PLAN, 0.0, slice(5, None)), 1.5),
        (CLEAN_TOKENS, scale(PLAN, 0.0, slice(0, 5)), 28.5),
    ],
)
def test_every_edit_by_hand(tokens, edit, expected):
    assert metric_of(tokens, edit) == pytest.approx(expected)


def test_values_of_other_prompts():
    # p = 2, a = 3
    assert metric_of(CLEAN_TOKENS, ablate(PLAN, "resample"), reference=CORRUPT_TOKENS) == pytest.approx(4.5)
    # k = 1 comes in
    assert metric_of(CLEAN_TOKENS, ablate(SUM, "resample"), reference=CORRUPT_TOKENS) == pytest.approx(28.0)
    held = node_values(paper_model(), CLEAN_TOKENS, [PLAN], paper_saes())[PLAN]
    assert float(held[0, -1]) == pytest.approx(10)
    assert metric_of(CORRUPT_TOKENS, freeze(PLAN, held)) == pytest.approx(26.5)
    mean = float(node_values(paper_model(), CORRUPT_TOKENS, [PLAN], paper_saes())[PLAN].mean())
    assert metric_of(CLEAN_TOKENS, ablate(PLAN, "mean"), reference=CORRUPT_TOKENS) == pytest.approx(
        3 * (mean - 1) + 1.5
    )


def test_edits_of_one_site_are_made_at_once_and_of_one_node_after_another():
    assert metric_of(CLEAN_TOKENS, scale(PLAN, 0.0), add(PLAN, 3.0)) == pytest.approx(3 * 2 + 1.5)
    assert metric_of(CORRUPT_TOKENS, clamp(PLAN, 10.0), ablate(SUM)) == pytest.approx(27.0)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: clamp(PLAN, float("nan")), "NaN or infinite"),
        (lambda: Edit(PLAN, "clampp", 1.0), "unknown kind of edit"),
        (lambda: ablate(PLAN, "median"), "unknown ablation"),
        (lambda: clamp(f"{PLAN}/p3", 1.0), "expected a node over all positions"),
        (lambda: clamp("embed", 1.0), "an edit of embed"),
        (lambda: clamp(PLAN, 1.0, [-1]), "counted from the front"),
    ],
)
def test_edits_that_make_no_sense_are_refused(make, text):
    with pytest.raises(UserError, match=text):
        make()


def test_predicted_next_to_real_on_one_linear_piece():
    """p changes by 8 and is worth 24; doubling its 10 moves it by 10, which is 10 / 8 of that."""
    model, saes, batch = paper_model(), paper_saes(), paper_batch()
    task = task_of(model, batch, paper_metric, saes)
    result = attribute(task, edges=False)
    edits = [ablate(PLAN, "resample", [5]), scale(PLAN, 2.0, [5])]
    table = predicted_effect(result, edits, task)
    alone = table[table["edit"] != TOGETHER]
    # along the prompt p changes elsewhere, too, where the metric does not look: shares are of the whole move
    moves = [
        float((node_values(model, tokens, [PLAN], saes)[PLAN]).square().sum())
        for tokens in (batch.clean, batch.corrupt)
    ]
    assert moves[0] != moves[1]
    assert alone["effect"].tolist() == pytest.approx([24, 24]) and alone["real"].tolist() == pytest.approx(
        [-24, 30]
    )
    share = alone["share"].to_numpy()
    assert share[1] / share[0] == pytest.approx(-10 / 8) and alone["predicted"].to_numpy() == pytest.approx(
        24 * share
    )
    everywhere = predicted_effect(result, [ablate(PLAN, "resample")], task)
    assert everywhere[["share", "predicted", "real"]].iloc[0].tolist() == pytest.approx([-1, -24, -24])
    other_run = predicted_effect(result, [ablate(PLAN, "resample")], task, run="corrupt")
    assert other_run[["share", "predicted", "real"]].iloc[0].tolist() == pytest.approx([1, 24, 24])


def test_predictions_of_what_is_not_known_are_refused():
    task = task_of(paper_model(), paper_batch(), paper_metric, paper_saes())
    result = attribute(task, edges=False)
    with pytest.raises(UserError, match="no effect is known of m1"):
        predicted_effect(result, [ablate("m1")], task)
    with pytest.raises(UserError, match="no edit was given"):
        predicted_effect(result, [], task)
    with pytest.raises(UserError, match="expected clean or corrupt"):
        predicted_effect(result, [ablate(PLAN)], task, run="both")
