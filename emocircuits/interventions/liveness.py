"""Whether an intervention really acts, and really ends: logits must change inside its context and return
exactly after.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Int

from emocircuits.errors import Failure


@torch.no_grad()
def check_live(
    model: Any,
    tokens: Int[torch.Tensor, "prompt pos"],
    intervention: Callable[[], AbstractContextManager],
    what: str,
) -> float:
    """Runs a batch before, inside and after an intervention.

    Args:
        model: any TransformerLens object.
        tokens: a batch.
        intervention: makes the context, e.g. `lambda: steer(model, push)`.
        what: its name, for error messages.

    Returns:
        The largest change of a logit inside the context.

    Raises:
        Failure: no logit changed inside, or some logit differs after it.
    """
    before = model(tokens)
    with intervention():
        inside = model(tokens)
    after = model(tokens)
    change = float((inside - before).abs().max())
    if not change > 0:
        raise Failure(
            f"{what} changed no logit", expected="other logits", cure="check site, strength and positions"
        )
    if not torch.equal(before, after):
        raise Failure(
            f"{what} is over and the logits differ by {float((after - before).abs().max()):.3g}",
            expected="exactly the logits of before",
            cure="another hook is left on the model, or it is not in evaluation mode",
        )
    return change
