"""Gradients of slots that begin late are worked on from there, and say the same."""

import pytest
import torch

from emocircuits.graphs.parts.read_gradients import ProjectedGradients, StreamGradients
from emocircuits.passes.window import from_position

HEADS, PROMPTS, LENGTH, WIDTH, D_HEAD = (3, 2, 2), 4, 6, 10, 5


def read_gradients(late):
    """Gradients at slots of three kinds; those in `late` are nothing before the last position."""
    made = torch.Generator().manual_seed(0)
    drawn = [torch.randn(heads, PROMPTS, LENGTH, D_HEAD, generator=made) for heads in HEADS]
    pull, unit = (
        torch.randn(sum(HEADS), PROMPTS, LENGTH, 1, generator=made),
        torch.randn(PROMPTS, LENGTH, WIDTH, generator=made),
    )
    first = 0
    for kind, heads in enumerate(HEADS):
        if kind in late:
            drawn[kind][:, :, :-1], pull[first : first + heads, :, :-1] = 0, 0
        first += heads
    inward = [torch.randn(heads, D_HEAD, WIDTH, generator=made) for heads in HEADS]
    whole = (
        torch.cat([torch.einsum("hpte,hed->hptd", *pair) for pair in zip(drawn, inward, strict=True)])
        - pull * unit
    )
    return ProjectedGradients(inward, drawn, [(pull, unit)]), whole


@pytest.mark.parametrize(
    ("late", "expected"),
    [
        ((), [(0, 7, 0)]),
        ((0,), [(0, 3, 5), (3, 7, 0)]),
        ((2,), [(0, 5, 0), (5, 7, 5)]),
        ((1,), [(0, 3, 0), (3, 5, 5), (5, 7, 0)]),
        ((0, 1, 2), [(0, 7, 5)]),
    ],
)
def test_spans_cover_all_slots_and_leave_out_nothing(late, expected):
    found, whole = read_gradients(late)
    assert [(slots.start, slots.stop, begin) for slots, begin in found.spans()] == expected
    for slots, begin in found.spans():
        part, skipped = from_position((slice(1, 3), slice(2, LENGTH)), begin)
        out = torch.empty(slots.stop - slots.start, 2, LENGTH - 2 - skipped, WIDTH)
        found.fill(slots, part, out)
        torch.testing.assert_close(out, whole[slots, 1:3, 2 + skipped :])
        assert not bool(whole[slots, :, :begin].any())


def test_points_of_a_path_begin_where_the_first_of_them_does():
    early, late = read_gradients(())[0], read_gradients((0, 1, 2))[0]
    assert late.plus(late).spans() == late.spans() and late.plus(early).spans() == early.spans()
    against = ProjectedGradients(
        early.inward, [-drawn for drawn in early.drawn], [(-early.pulls[0][0], 2 * early.pulls[0][1])]
    )
    assert early.plus(against).spans() == early.spans()  # what the scales take off does not cancel
    stream = torch.zeros(2, PROMPTS, LENGTH, WIDTH)
    stream[1, 0, 1] = 1
    assert StreamGradients(stream).spans() == [(slice(0, 2), 0)]
    assert StreamGradients(stream * 0).spans() == [(slice(0, 2), LENGTH - 1)]
