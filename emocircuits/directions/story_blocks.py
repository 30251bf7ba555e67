"""One pass over one site of an activation store: story means in order, and moments of neutral text on the
way.

Nothing that grows with the number of stories is held: a block of rows ends where a prompt ends, and the means
of a block's stories are handed on at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import sparse

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.errors import UserError

BLOCK_ROWS = 1 << 15
CHUNK = 2048
"""Stories handed on together; also what random story weights are drawn for, so they do not depend on the size
of blocks.
"""

TakeStories = Callable[[int, np.ndarray], None]
"""Called with the number of the first story and `(story, d_model)` means, stories in order."""


@dataclass(frozen=True, eq=False)
class StoryPlan:
    """Which rows of a store are read as what.

    Attributes:
        stories: one row per story used (labels as in the store), in the order of the store.
        from_token: first token of a story that counts (position 0 is BOS or the first token).
        story_of: story number of every prompt, -1 for the others.
        neutral: whether a prompt is neutral text.
        token_norm: whether every token is scaled to the mean norm before it is averaged.
    """

    stories: pd.DataFrame
    from_token: int
    story_of: Int[np.ndarray, "prompt"]
    neutral: np.ndarray
    token_norm: bool = False


@dataclass(frozen=True, eq=False)
class SiteMoments:
    """What a pass over a site leaves besides the stories; position 0 (attention sink) is masked, float64.

    Attributes:
        neutral_mean, neutral_cov: mean and covariance over tokens of neutral texts.
        residual_norm: mean norm over all tokens.
        scale: what story means must be multiplied by to be in residual units (1 without `token_norm`).
    """

    neutral_mean: Float[np.ndarray, "d_model"]
    neutral_cov: Float[np.ndarray, "d_model d_model"]
    residual_norm: float
    scale: float


def plan_stories(
    store: ActivationStore,
    *,
    from_token: int,
    story_kinds: Sequence[str] = ("story",),
    neutral_kinds: Sequence[str] = ("neutral",),
    named: bool | None = False,
    token_norm: bool = False,
) -> StoryPlan:
    """Chooses stories and neutral texts by their labels.

    Args:
        store: activations with labels.
        from_token: first position of a story that counts, at least 1 (position 0 is the sink).
        story_kinds: kinds of text the stories are.
        neutral_kinds: kinds of text without emotion.
        named: only stories that name their emotion (True), that do not (False), or both (None).
        token_norm: scale every token to the mean norm before it is averaged.

    Raises:
        UserError: no story or no neutral text is left.
    """
    if from_token < 1:
        raise UserError(
            f"from_token is {from_token}", expected="at least 1: position 0 is the attention sink"
        )
    prompts = store.prompts
    n_tokens = prompts["n_tokens"].to_numpy()
    is_story = prompts["kind"].isin(list(story_kinds)).to_numpy() & (prompts["emotion"].to_numpy() != "")
    if named is not None:
        is_story &= prompts["named"].to_numpy(dtype=bool) == named
    longest = int(n_tokens[is_story].max()) if is_story.any() else 0
    is_story &= n_tokens > from_token
    is_neutral = prompts["kind"].isin(list(neutral_kinds)).to_numpy()
    if not is_story.any():
        raise UserError(
            f"no story of kind {', '.join(story_kinds)} has more than {from_token} tokens "
            f"(the longest has {longest})",
            cure="lower the first token that counts, or collect longer stories",
        )
    if not is_neutral.any():
        raise UserError(
            f"the activation store has no neutral text (kind {', '.join(neutral_kinds)})",
            cure="collect neutral texts: their main components are projected out of the directions",
        )
    story_of = np.full(len(prompts), -1)
    story_of[is_story] = np.arange(int(is_story.sum()))
    return StoryPlan(prompts[is_story].reset_index(drop=True), from_token, story_of, is_neutral, token_norm)


def read_site(
    store: ActivationStore, plan: StoryPlan, site: str, take: TakeStories, *, chunk: int = CHUNK
) -> SiteMoments:
    """Reads every row of a site once.

    Args:
        store: the store the plan was made for.
        plan: what is read as what.
        site: which site.
        take: gets the story means, `chunk` stories at a time (fewer at the end).
        chunk: stories per call of `take`.
    """
    width, offsets, n_tokens = (
        store.d_model,
        store.prompts["offset"].to_numpy(),
        store.prompts["n_tokens"].to_numpy(),
    )
    mean, cov, norms, n_neutral = np.zeros(width), np.zeros((width, width)), 0.0, 0
    buffer, filled, handed = np.empty((chunk, width), dtype=np.float32), 0, 0
    for first, stop in prompt_blocks(n_tokens, BLOCK_ROWS):
        low, high = int(offsets[first]), int(offsets[stop - 1] + n_tokens[stop - 1])
        x = store.read(site, slice(low, high))
        positions = np.asarray(store.positions[low:high])
        lengths = np.sqrt(np.einsum("rd,rd->r", x, x))
        norms += float(lengths[positions > 0].sum(dtype=np.float64))
        if plan.token_norm:
            x = x / np.maximum(lengths, np.finfo(np.float32).tiny)[:, None]
        for start, end in _runs(plan.neutral[first:stop]):
            flat = x[
                offsets[first + start] - low : offsets[first + end - 1] + n_tokens[first + end - 1] - low
            ]
            flat = flat[positions[offsets[first + start] - low :][: len(flat)] > 0].astype(np.float64)
            mean, cov, n_neutral = mean + flat.sum(axis=0), cov + flat.T @ flat, n_neutral + len(flat)
        chosen = np.flatnonzero(plan.story_of[first:stop] >= 0) + first
        if not len(chosen):
            continue
        for part in np.array_split(
            _story_means(x, offsets[chosen] - low, n_tokens[chosen], plan.from_token),
            range(chunk - filled, len(chosen), chunk),
        ):
            buffer[filled : filled + len(part)] = part
            filled += len(part)
            if filled == chunk:
                take(handed, buffer)
                handed, filled = handed + filled, 0
    if filled:
        take(handed, buffer[:filled])
    store.unmap()
    counted = int(n_tokens.sum()) - len(n_tokens)
    residual_norm, n_neutral = norms / max(1, counted), max(1, n_neutral)
    scale = residual_norm if plan.token_norm else 1.0
    mean /= n_neutral
    return SiteMoments(
        scale * mean, scale**2 * (cov / n_neutral - np.outer(mean, mean)), residual_norm, scale
    )


def prompt_blocks(n_tokens: Int[np.ndarray, "prompt"], most_rows: int) -> list[tuple[int, int]]:
    """Runs of prompts with at most `most_rows` rows each (or one prompt): pairs (first, one after
    the last).
    """
    ends = np.cumsum(n_tokens)
    blocks, first = [], 0
    while first < len(ends):
        before = int(ends[first - 1]) if first else 0
        stop = max(first + 1, int(np.searchsorted(ends, before + most_rows, side="right")))
        blocks.append((first, stop))
        first = stop
    return blocks


def _story_means(
    x: Float[np.ndarray, "row d_model"],
    starts: Int[np.ndarray, "chosen"],
    n_tokens: Int[np.ndarray, "chosen"],
    from_token: int,
) -> Float[np.ndarray, "chosen d_model"]:
    """Means over the rows of each story from its `from_token`-th on, as one sparse product."""
    counts = n_tokens - from_token
    ends = np.cumsum(counts)
    columns = np.repeat(starts + from_token - (ends - counts), counts) + np.arange(int(ends[-1]))
    weights = np.repeat((1.0 / counts).astype(np.float32), counts)
    gather = sparse.csr_matrix((weights, columns, np.append(0, ends)), shape=(len(starts), len(x)))
    return gather @ x


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Stretches of True: pairs (first, one after the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
