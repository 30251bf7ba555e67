"""A part of a batch: streams are large, and edges add up over prompts and positions, so they are worked on in
pieces.
"""

from torch import Tensor

Window = tuple[slice, slice]
"""Some prompts and some positions of a batch."""
EVERYTHING: Window = (slice(None), slice(None))


def within(value: Tensor, window: Window) -> Tensor:
    """What lies in a window; an axis of length one is the same for all (a mean, or nothing)."""
    return value[
        tuple(part if size > 1 else slice(None) for part, size in zip(window, value.shape, strict=False))
    ]


def from_position(window: Window, begin: int) -> tuple[Window, int]:
    """The part of a window from a position on, and how many of its positions stand before."""
    first = max(window[1].start or 0, begin)
    return (window[0], slice(first, window[1].stop)), first - (window[1].start or 0)
