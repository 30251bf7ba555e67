"""Which tokens a direction makes likelier, and how: written straight into the unembedding, or added by what
later layers make of it.

A small push of strength ±h along a direction is added at every position of a prompt, as in steering, and the
logits at the last position are compared:

    total   =  (logits(x + h) - logits(x - h)) / 2h           the real model, everything after the site runs
    direct  =  the same with the push added to the stream after the last block: only final norm and
    unembedding see it
    later   =  total - direct                                  what attention and MLPs after the site add

averaged over prompts, per unit of strength (strength 1 is a push as long as the mean residual norm at the
site), minus the mean over the vocabulary, which a softmax does not see. The plain logit lens (nostalgebraist
2020) is the direct part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.artifacts.direction import Direction
from emocircuits.errors import Failure, UserError, unknown
from emocircuits.experiments.steered import equal_length_groups, site_of
from emocircuits.models.language_model import LanguageModel
from emocircuits.names import residual_site
from emocircuits.passes.resume import resume, stream_at
from emocircuits.progress import bar

PARTS = ("total", "direct", "later")


@dataclass(frozen=True, eq=False)
class LogitLens:
    """Change of every logit per unit of strength, mean over prompts.

    Attributes:
        names, kinds: of the directions.
        total, direct: see the module; `later` is their difference.
        n_prompts: prompts averaged over.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    total: Float[np.ndarray, "direction d_vocab"]
    direct: Float[np.ndarray, "direction d_vocab"]
    n_prompts: int

    def part(self, name: str) -> Float[np.ndarray, "direction d_vocab"]:
        """One of `PARTS`.

        Raises:
            UserError: another name.
        """
        if name not in PARTS:
            raise unknown("part of the logit lens", name, PARTS)
        return {"total": self.total, "direct": self.direct, "later": self.total - self.direct}[name]


@torch.no_grad()
def logit_lens(
    model: LanguageModel,
    directions: Sequence[Direction],
    prompts: Sequence[Sequence[int]],
    *,
    strength: float = 0.02,
    batch_tokens: int = 4096,
) -> LogitLens:
    """Pushes along every direction at the end of every prompt.

    Args:
        model: the model.
        directions: emotions and controls, all at one site.
        prompts: token ids; logits are read at the last position.
        strength: h, a fraction of the norm: small, so that the change is proportional to it.
        batch_tokens: tokens per forward pass.

    Raises:
        UserError: no directions, no prompts, or a strength that is not above 0 and at most 0.5.
        Failure: the pushes changed no logit.
    """
    if not directions or not prompts:
        raise UserError(
            f"{len(directions)} directions and {len(prompts)} prompts for the logit lens",
            expected="some of both",
        )
    if not 0 < strength <= 0.5:
        raise UserError(
            f"logit-lens strength {strength:g}",
            expected="a small fraction of the mean residual norm, at most 0.5",
        )
    bridge, device = model.bridge, model.bridge.cfg.device
    last = residual_site(model.n_layers - 1)
    site = site_of(directions)
    push = torch.stack([direction.push(strength).vector for direction in directions]).to(device)
    sums = {part: np.zeros((len(directions), model.d_vocab)) for part in ("total", "direct")}
    with bar(len(prompts) * len(directions), "logit lens") as shown:
        for _, tokens in equal_length_groups(prompts):
            tokens = tokens.to(device)
            stream, final = stream_at(bridge, tokens, site), stream_at(bridge, tokens, last)[:, -1:]
            for row in range(len(tokens)):
                # after the last block nothing looks at other positions, so the direct part needs only the
                # last
                for part, pushed_site, start in (("total", site, stream[row]), ("direct", last, final[row])):
                    size = max(1, batch_tokens // (2 * len(start)))
                    for first in range(0, len(directions), size):
                        these = push[first : first + size]
                        logits = _pushed(
                            model, tokens[row, -len(start) :], pushed_site, start, torch.cat([these, -these])
                        )
                        change = (logits[: len(these)] - logits[len(these) :]) / (2 * strength)
                        sums[part][first : first + size] += change.cpu().numpy()
                shown.update(len(directions))
    centred = {
        part: (values - values.mean(axis=1, keepdims=True)) / len(prompts) for part, values in sums.items()
    }
    if not np.abs(centred["total"]).max() > 0:
        raise Failure(f"pushing along the directions at {site} changed no logit", cure="check the hook name")
    names, kinds = zip(*((direction.name, direction.kind) for direction in directions), strict=True)
    return LogitLens(
        names,
        kinds,
        **{part: values.astype(np.float32) for part, values in centred.items()},
        n_prompts=len(prompts),
    )


def lens_table(
    lens: LogitLens, model: LanguageModel, *, top: int = 10, among: Sequence[int] | None = None
) -> pd.DataFrame:
    """The tokens raised and lowered most.

    Args:
        lens: the changes.
        model: the model, for the tokens' texts.
        top: how many at each end.
        among: only these token ids (for instance the names of the emotions); None for the whole vocabulary.

    Returns:
        `direction, kind, part, end` (the tokens at the `top` or `bottom` of this part), `rank` (1 is the
        outermost), `token_id, token, total, direct, later` (logits per unit of strength).
    """
    rows, known = [], np.arange(lens.total.shape[1]) if among is None else np.unique(np.asarray(among))
    parts = {part: lens.part(part) for part in PARTS}
    for part in PARTS:
        values = parts[part][:, known]
        count = min(top, values.shape[1])
        for end, sign in (("top", -1), ("bottom", 1)):
            chosen = known[np.argsort(sign * values, axis=1, kind="stable")[:, :count]]
            for row, (name, kind) in enumerate(zip(lens.names, lens.kinds, strict=True)):
                for rank, (index, text) in enumerate(
                    zip(chosen[row], model.token_texts(chosen[row].tolist()), strict=True)
                ):
                    rows.append(
                        (
                            name,
                            kind,
                            part,
                            end,
                            rank + 1,
                            int(index),
                            text,
                            *(float(parts[column][row, index]) for column in PARTS),
                        )
                    )
    return pd.DataFrame(
        rows, columns=["direction", "kind", "part", "end", "rank", "token_id", "token", *PARTS]
    )


def lens_summary(lens: LogitLens, model: LanguageModel) -> pd.DataFrame:
    """How much of each direction's effect on the logits is direct, and what it does to the emotion's own
    name.

    Returns:
        `direction, kind, total_sd, direct_sd, later_sd` (root mean square change over the vocabulary),
        `r_direct_total` (correlation over the vocabulary), `own_z_total, own_z_direct` (change of the
        direction's own name in standard deviations over the vocabulary), `own_rank_total, own_rank_direct`
        (its rank among the names of all directions here, 1 is the most raised), `n_names`; NaN where the name
        is not one token.
    """
    own = {
        row: token
        for row, (name, kind) in enumerate(zip(lens.names, lens.kinds, strict=True))
        if kind == "emotion" and (token := _own_token(model, name)) is not None
    }
    tokens, rows = list(own.values()), []
    for row, (name, kind) in enumerate(zip(lens.names, lens.kinds, strict=True)):
        parts = {part: lens.part(part)[row].astype(np.float64) for part in PARTS}
        spread = {part: float(np.sqrt((values**2).mean())) for part, values in parts.items()}
        known = spread["total"] > 0 and spread["direct"] > 0
        r = float(np.corrcoef(parts["total"], parts["direct"])[0, 1]) if known else 0.0
        z, ranks = [np.nan] * 2, [np.nan] * 2
        if row in own:
            z = [
                float(parts[part][own[row]] / spread[part]) if spread[part] else 0.0
                for part in ("total", "direct")
            ]
            ranks = [
                float((parts[part][tokens] >= parts[part][own[row]]).sum()) for part in ("total", "direct")
            ]
        rows.append((name, kind, *spread.values(), r, *z, *ranks, len(tokens)))
    columns = [
        "direction",
        "kind",
        "total_sd",
        "direct_sd",
        "later_sd",
        "r_direct_total",
        "own_z_total",
        "own_z_direct",
        "own_rank_total",
        "own_rank_direct",
        "n_names",
    ]
    return pd.DataFrame(rows, columns=columns)


def _pushed(
    model: LanguageModel,
    tokens: Tensor,
    site: str,
    stream: Float[Tensor, "pos d_model"],
    pushes: Float[Tensor, "push d_model"],
) -> Float[Tensor, "push d_vocab"]:
    """Logits at the last position with each push added everywhere."""
    copies = stream[None] + pushes.to(stream.dtype)[:, None]
    tokens = tokens[None].repeat(len(pushes), 1)
    return resume(model.bridge, tokens, site, copies, last=True)[:, -1].double()


def _own_token(model: LanguageModel, name: str) -> int | None:
    try:
        return model.single_token(name)
    except UserError:
        return None
