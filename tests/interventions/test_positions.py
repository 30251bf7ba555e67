"""Positions and schedules, read from text and counted pass by pass."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emocircuits.errors import UserError
from emocircuits.interventions.positions import Weights, fade, parse_positions, parse_schedule, ramp


@settings(max_examples=40)
@given(data=st.data())
def test_weights_pass_by_pass_equal_weights_at_once(data):
    """A cached run (a prompt, then single tokens) is steered like one pass over the whole, whatever the
    padding.
    """
    rows, prompt, new = (
        data.draw(st.integers(1, 3)),
        data.draw(st.integers(1, 6)),
        data.draw(st.integers(0, 4)),
    )
    pads = data.draw(st.lists(st.integers(0, prompt - 1), min_size=rows, max_size=rows))
    mask = torch.tensor([[int(column >= pad) for column in range(prompt)] for pad in pads])
    start = data.draw(st.integers(0, 5))
    positions = data.draw(
        st.sampled_from([None, slice(start, None), slice(start, start + 2), [start, start + 3]])
    )
    schedule = data.draw(st.sampled_from([None, ramp(1, 4), fade(3)]))
    at_once = Weights(positions, schedule, mask)
    whole = at_once.next(rows, prompt + new)
    steps = Weights(positions, schedule, mask)
    parts = [steps.next(rows, prompt)] + [steps.next(rows, 1) for _ in range(new)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    for row, pad in enumerate(pads):
        alone = Weights(positions, schedule).next(1, prompt + new - pad)
        np.testing.assert_array_equal(whole[row, pad:], alone[0])
        assert (whole[row, :pad] == 0).all()


def test_positions_and_schedules_are_read_from_text():
    assert parse_positions("all") == "all" and parse_positions("generated") == "generated"
    assert parse_positions("3:9") == slice(3, 9) and parse_positions("12:") == slice(12, None)
    assert parse_positions("4,6") == [4, 6]
    assert (
        parse_schedule("ramp:0:10")(np.array([5.0])) == 0.5
        and parse_schedule("fade:4")(np.array([8.0])) == 0.25
    )
    for text in ("last", "1:2:3", "a,b"):
        with pytest.raises(UserError, match="span such as"):
            parse_positions(text)
    for text in ("ramp:3", "rise:0:4", "fade:x", "fade"):
        with pytest.raises(UserError, match="ramp:START:STOP"):
            parse_schedule(text)
    with pytest.raises(UserError, match="later end"):
        parse_schedule("ramp:5:5")
    with pytest.raises(UserError, match="above 0"):
        parse_schedule("fade:0")
