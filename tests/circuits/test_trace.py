"""From a push to the metric: the splits of the paper model by hand, their laws on random models, and bad
questions.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from planted.paper_model import (
    CORRUPT,
    SITES,
    K,
    P,
    S,
    difference,
    paper_metric,
    paper_model,
    paper_saes,
    random_batch,
    random_model,
    random_saes,
)
from planted.tasks import pairs_of, task_of

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.artifacts.push import Push
from emocircuits.circuits.overlap import overlap
from emocircuits.circuits.trace import trace_pushes
from emocircuits.errors import Failure, UserError
from emocircuits.passes.prompt_pairs import PromptPairs
from emocircuits.passes.task import Task


def trace_push(task, push, **settings):
    """The trace of one push."""
    return trace_pushes(task, [push], **settings)[0]


def paper_task():
    """The corrupt prompt of the paper model, and the SAE in its middle."""
    saes = {SITES[1]: paper_saes()[SITES[1]]}
    return task_of(paper_model(), pairs_of([CORRUPT], [CORRUPT]), paper_metric, saes)


def axis(direction: int, amount: float = 1.0) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(direction), 6).double() * amount


def test_the_paper_model_by_hand():
    """A desperate word more: 1/2 straight into the logits, 2 more of p, hence 6 more of a, through
    the MLPs.
    """
    found = trace_push(paper_task(), Push("s", SITES[0], axis(S)), matched={SITES[1]: [P]}, steps=4)
    assert found.total == pytest.approx([6.5])
    assert found.share("readers", "direct") == pytest.approx(0.5 / 6.5)
    assert found.share("readers", "MLP 1") == found.share("routes", "MLPs") == pytest.approx(6 / 6.5)
    assert found.share("readers", "MLP 2") == pytest.approx(0, abs=1e-9)
    assert found.share("real", "only the logits see the push") == pytest.approx(0.5 / 6.5)
    assert found.share("real", "all but the logits see the push") == pytest.approx(6 / 6.5)
    assert found.share(SITES[1], f"feature/{SITES[1]}/{P}") == pytest.approx(6 / 6.5)
    assert found.share(SITES[1], "matched features") == pytest.approx(6 / 6.5)
    assert found.share(SITES[1], "other features") == pytest.approx(0.5 / 6.5)
    assert found.share(SITES[1], "error") == pytest.approx(0, abs=1e-9)
    assert found.share("whole", "whole") == 1


def test_what_the_sae_does_not_know_is_error():
    """The middle SAE has no feature for k: a push along it passes as error."""
    found = trace_push(paper_task(), Push("k", SITES[0], axis(K, -1.0)), steps=4)
    assert found.total == pytest.approx([6.5])
    assert found.share(SITES[1], "error") == pytest.approx(0.5 / 6.5)


@pytest.mark.parametrize("norm", ["LN", None])
def test_parts_add_up_and_the_remainder_vanishes_with_the_steps(norm):
    torch.manual_seed(3)
    model, tokens = random_model(norm=norm), random_batch(6, 7).corrupt
    push = Push("v", SITES[0], torch.randn(12, dtype=torch.float64))
    saes = {SITES[1]: random_saes("standard", 3, 12)[SITES[1]]}
    task = task_of(model, pairs_of(tokens, tokens), difference, saes)
    coarse, fine = (trace_push(task, push, steps=steps) for steps in (2, 64))
    for found in (coarse, fine):
        sums = found.table.groupby("split")["amount"].sum()
        np.testing.assert_allclose([sums["readers"], sums["routes"]], found.total.mean(), atol=1e-9)
        rows = found.table[(found.table["split"] == SITES[1])]
        np.testing.assert_allclose(
            rows.loc[~rows["part"].str.contains("/"), "amount"].sum()
            - rows.loc[rows["part"] == "matched features", "amount"].sum(),
            found.total.mean(),
            atol=1e-9,
        )
    missing = [
        abs(found.share("readers", "remainder") * found.total.mean()) / np.abs(found.total).mean()
        for found in (coarse, fine)
    ]
    assert missing[1] < 0.02 and missing[1] < missing[0] / 4, missing
    plain = model(tokens)
    with model.hooks([(SITES[0], lambda x, hook: x + push.vector)]):
        steered = model(tokens)
    np.testing.assert_allclose(fine.total, (difference(steered) - difference(plain)).numpy(), atol=1e-9)


def test_pushes_that_share_passes_have_the_traces_they_have_alone():
    """Prompts of two lengths; three pushes, two of which fit into a pass."""
    torch.manual_seed(3)
    prompts = [row for length, count in ((7, 2), (5, 3)) for row in random_batch(count, length).corrupt]
    saes = {SITES[1]: random_saes("standard", 3, 12)[SITES[1]]}
    task = Task(random_model(), PromptPairs.of(prompts, prompts), difference, saes, max_tokens=31)
    pushes = [Push(name, SITES[0], torch.randn(12, dtype=torch.float64)) for name in "abc"]
    together = trace_pushes(task, pushes, matched={SITES[1]: [2]}, steps=3)
    for push, found in zip(pushes, together, strict=True):
        alone = trace_push(task, push, matched={SITES[1]: [2]}, steps=3)
        np.testing.assert_allclose(found.total, alone.total, rtol=1e-12)
        pd.testing.assert_frame_equal(found.table, alone.table, rtol=1e-9)
    assert len({float(np.abs(found.total).sum()) for found in together}) == 3


def test_a_push_that_changes_nothing_is_named_among_others():
    task, zero = paper_task(), Push("nothing", SITES[0], torch.zeros(6, dtype=torch.float64))
    with pytest.raises(Failure, match=f"along nothing at {SITES[0]} changed nothing"):
        trace_pushes(task, [Push("s", SITES[0], axis(S)), zero])
    with pytest.raises(UserError, match="2 pushes at 2 sites"):
        trace_pushes(task, [Push("s", SITES[0], axis(S)), Push("s", SITES[1], axis(S))])


def test_after_the_last_block_all_is_direct():
    torch.manual_seed(3)
    tokens = random_batch(4, 7).corrupt
    task = task_of(random_model(), pairs_of(tokens, tokens), difference)
    found = trace_push(task, Push("v", SITES[2], torch.randn(12, dtype=torch.float64)), steps=64)
    assert found.share("readers", "direct") == pytest.approx(1, abs=1e-3)
    assert found.share("real", "only the logits see the push") == pytest.approx(1)


def result_of(effects: dict[str, float]) -> AttributionResult:
    values = np.tile(np.array(list(effects.values())), (3, 1))
    return AttributionResult("b", tuple(effects), values, np.ones(3), np.zeros(3), {}, 1)


def test_overlap_counts_what_two_circuits_share_and_what_chance_gives():
    names = [f"feature/{SITES[0]}/{number}" for number in range(20)]
    first = result_of({name: 1.0 / (1 + number) for number, name in enumerate(names)})
    second = result_of({name: 1.0 / (2 + number) for number, name in enumerate(names)})
    found = overlap(first, names[:4], second, names[2:6])
    assert (found.shared, found.candidates, found.nodes) == (2, 20, (names[2], names[3]))
    assert found.jaccard == pytest.approx(2 / 6) and found.effect_correlation == pytest.approx(1)
    assert found.chance_jaccard == pytest.approx(0.8 / (8 - 0.8))  # 4 of 20 twice: 4 * 4 / 20 in common
    assert (
        overlap(first, names[:4], second, names[:4]).p_value
        < 0.001
        < overlap(first, names[:4], second, names[10:14]).p_value
    )
    with pytest.raises(UserError, match="empty circuit"):
        overlap(first, [], second, names[:2])
    with pytest.raises(UserError, match="0 candidate nodes in common"):
        overlap(first, names[:2], result_of({f"feature/{SITES[1]}/0": 1.0}), [f"feature/{SITES[1]}/0"])
