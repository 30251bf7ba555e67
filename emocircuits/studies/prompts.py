"""Prompts of a behaviour without pressure either way: where baselines are measured and steering
starts from.
"""

from collections.abc import Sequence

from emocircuits.behaviours import PromptPair


def unpressed_prompts(pairs: Sequence[PromptPair]) -> list[tuple[str, float | None]]:
    """The neutral prompts of the pairs with the true rate where known; both sides of the pairs where they
    have none.
    """
    neutral = [
        (pair.details["neutral"], pair.details.get("true_neutral"))
        for pair in pairs
        if "neutral" in pair.details
    ]
    if neutral:
        return neutral
    return [
        side for pair in pairs for side in ((pair.clean, pair.true_clean), (pair.corrupt, pair.true_corrupt))
    ]
