"""Preferences (after Sofroniew et al. 2026): Elo of activities, the emotions they evoke, and whether pushing
changes the choice.

Two activities are offered as A and B and P(A) is the share of A's token among A's and B's. Over all ordered
pairs this gives an Elo rating of every activity. An emotion's *reading* of an activity is the mean over the
tokens of its text, wherever it is offered; its correlation with Elo over activities says which emotions go
with being liked. *Steering* adds the direction on the tokens of half of the activities only; the change of
their Elo against that of the other half is the causal effect. If reading and effect, both at one site, agree
over emotions, the directions are used for the choice, and not only present.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy import sparse
from scipy.stats import rankdata, spearmanr

from emocircuits.artifacts.direction import Direction
from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.errors import Failure, UserError
from emocircuits.experiments.elo import EloRatings, fit_elo
from emocircuits.experiments.preference_material import (
    OptionPrompt,
    PreferenceMaterial,
    option_prompts,
    ordered_pairs,
    stratified_half,
)
from emocircuits.experiments.resumed import Crew
from emocircuits.experiments.steered import equal_length_groups, site_of
from emocircuits.models.language_model import LanguageModel
from emocircuits.names import residual_site
from emocircuits.numerics import fisher_interval
from emocircuits.passes.hooks import recorded
from emocircuits.passes.resume import stream_at
from emocircuits.progress import bar
from emocircuits.threads import side_by_side

Batch = tuple[Int[np.ndarray, "prompt"], Int[torch.Tensor, "prompt pos"]]


@dataclass(frozen=True, eq=False)
class Preferences:
    """What the model prefers, unsteered.

    Attributes:
        material: what was asked.
        ratings: Elo of every activity.
        readings: mean reading of every emotion on every activity's tokens, in the unit of steering strength.
        sites, emotions: first and last axis of the readings.
        n_pairs: ordered pairs asked.
    """

    material: PreferenceMaterial
    ratings: EloRatings
    readings: Float[np.ndarray, "site activity emotion"]
    sites: tuple[str, ...]
    emotions: tuple[str, ...]
    n_pairs: int

    def correlations(self) -> pd.DataFrame:
        """`site, emotion, r, ci_low, ci_high, rho, n`: Pearson (95 % by Fisher's z) and Spearman correlation
        of reading and Elo.
        """
        elo, n = self.ratings.elo, len(self.ratings.elo)
        rows = []
        for site, block in zip(self.sites, self.readings, strict=True):
            pearson, spearman = (
                _correlations(block, elo),
                _correlations(rankdata(block, axis=0), rankdata(elo)),
            )
            rows += [
                (site, emotion, float(r), *fisher_interval(float(r), n), float(rho), n)
                for emotion, r, rho in zip(self.emotions, pearson, spearman, strict=True)
            ]
        return pd.DataFrame(rows, columns=["site", "emotion", "r", "ci_low", "ci_high", "rho", "n"])

    def site_scores(self) -> pd.DataFrame:
        """How well each site's readings foretell the Elo of an activity that was left out.

        Returns:
            `site, predicted_r` (correlation of Elo with its leave-one-out ridge prediction from all readings,
            the penalty a tenth of their mean variance), `largest_abs_r` (of a single emotion).
        """
        elo = self.ratings.elo - self.ratings.elo.mean()
        rows = []
        for site, block in zip(self.sites, self.readings, strict=True):
            centred = block - block.mean(axis=0)
            gram = centred @ centred.T
            hat = gram @ np.linalg.inv(gram + 0.1 * np.trace(gram) / len(gram) * np.eye(len(gram)))
            left_out = (hat @ elo - np.diag(hat) * elo) / (1 - np.diag(hat))
            rows.append(
                (
                    site,
                    float(_correlations(left_out[:, None], elo)[0]),
                    float(np.abs(_correlations(block, elo)).max()),
                )
            )
        return pd.DataFrame(rows, columns=["site", "predicted_r", "largest_abs_r"])

    def best_site(self, *, but: str = "") -> str:
        """The site whose readings foretell preferences best; nothing is steered to choose it.

        Args:
            but: a site that is not taken: the last one, from where the options' tokens no longer reach the
                answer.

        Raises:
            UserError: there is no other site.
        """
        scores = self.site_scores()
        scores = scores[scores["site"] != but]
        if scores.empty:
            raise UserError(
                f"the directions have no site but {but}",
                expected="one from where options still reach the answer",
            )
        return str(scores["site"].iloc[int(scores["predicted_r"].argmax())])

    def table(self) -> pd.DataFrame:
        """`activity, category, text, elo, standard_error`, best liked first."""
        rows = [(activity.id, activity.category, activity.text) for activity in self.material.activities]
        table = pd.DataFrame(rows, columns=["activity", "category", "text"])
        table = table.assign(elo=self.ratings.elo, standard_error=self.ratings.standard_error)
        return table.sort_values("elo", ascending=False, kind="stable", ignore_index=True)


@torch.no_grad()
def preferences(
    model: LanguageModel,
    directions: EmotionDirections,
    material: PreferenceMaterial,
    *,
    emotions: Sequence[str] | None = None,
    pairs: int | None = None,
    seed: int = 0,
    batch_tokens: int = 4096,
) -> Preferences:
    """Asks about every ordered pair and reads the options' tokens at every site of the directions.

    Args:
        model: the model.
        directions: its directions.
        material: activities and questions.
        emotions: whose readings; all by default.
        pairs: ask only so many pairs (every activity equally often); all by default.
        seed: seed of which question goes to which pair.
        batch_tokens: tokens per forward pass.

    Raises:
        UserError: directions of another model, or labels that are not one token.
    """
    directions.check_model(model.name, model.content_hash, model.d_model)
    sites, n = directions.sites, len(material.activities)
    emotions = tuple(directions.emotions if emotions is None else emotions)
    vectors = np.stack([[directions.vector(emotion, site) for emotion in emotions] for site in sites]).astype(
        np.float64
    )
    prompts = option_prompts(model, material, ordered_pairs(n, pairs, seed), seed)
    labels = [model.single_token(label) for label in material.labels]
    crew, device = Crew.of(model.bridge), model.bridge.cfg.device

    @torch.no_grad()
    def ask(number: int, batch: Batch) -> tuple[Float[np.ndarray, "prompt"], list[np.ndarray]]:
        """P(first) of a batch, and per site the sums of mean streams of each activity."""
        numbers, tokens = batch
        with crew.member(number) as bridge, recorded(bridge, sites) as streams:
            logits = bridge(tokens.to(device), use_cache=False, logits_to_keep=1)[:, -1, labels]
        weights = _option_weights(prompts, numbers, n, tokens.shape[1])
        return _share(logits), [
            weights @ streams[site].double().cpu().numpy().reshape(-1, model.d_model) for site in sites
        ]

    sums, p_first = np.zeros((len(sites), n, model.d_model)), np.zeros(len(prompts))
    batches = list(_batches(prompts, batch_tokens))
    with bar(len(prompts), "preferences") as shown:
        done = side_by_side(ask, batches, range(len(crew.bridges)))
        for (numbers, _), (shares, read) in zip(batches, done, strict=True):
            p_first[numbers] = shares
            sums += read
            shown.update(len(numbers))
    offered = np.bincount(
        [activity for prompt in prompts for activity in (prompt.first, prompt.second)], minlength=n
    )
    means = sums / offered[:, None] - directions.mean[:, None]
    readings = (
        np.einsum("sad,sed->sae", means, vectors, optimize=True) / directions.residual_norm[:, None, None]
    )
    first, second = (np.array([getattr(prompt, side) for prompt in prompts]) for side in ("first", "second"))
    return Preferences(material, fit_elo(first, second, p_first, n), readings, sites, emotions, len(prompts))


@torch.no_grad()
def steered_preferences(
    model: LanguageModel,
    rated: Preferences,
    directions: Sequence[Direction],
    *,
    strength: float = 0.5,
    pairs: int | None = None,
    seed: int = 0,
    batch_tokens: int = 4096,
) -> pd.DataFrame:
    """Pushes on the tokens of half of the activities and rates everything again.

    Args:
        model: the model.
        rated: its preferences; the half is balanced over their Elo.
        directions: emotions and controls, all at one site.
        strength: of the push, a fraction of the mean residual norm there.
        pairs: rate with only so many pairs (every activity equally often); all by default.
        seed: seed of the half and of the pairs.
        batch_tokens: tokens per forward pass.

    Returns:
        `direction, kind, strength, delta_elo, ci_low, ci_high`: mean change of the pushed activities' Elo
            minus that of the others; 95 % interval over activities (normal).

    Raises:
        UserError: no directions, or a strength that is no fraction of the norm.
        Failure: pushing changed no answer.
    """
    site = site_of(directions)
    if strength == 0:
        raise UserError("a steering strength of 0", expected="a fraction of the mean residual norm, not 0")
    if site == residual_site(model.n_layers - 1):
        raise UserError(
            f"directions at {site} to steer preferences along",
            expected="a site before the last: after it nothing carries a push from the options to the answer",
        )
    material = rated.material
    half = stratified_half(rated.ratings.elo.tolist(), seed)
    prompts = option_prompts(model, material, ordered_pairs(len(half), pairs, seed), seed)
    labels, device = [model.single_token(label) for label in material.labels], model.bridge.cfg.device
    pushes = torch.stack([direction.push(strength).vector for direction in directions]).to(device)
    pushes = torch.cat([torch.zeros_like(pushes[:1]), pushes])
    crew = Crew.of(model.bridge)

    @torch.no_grad()
    def ask(number: int, batch: Batch) -> Float[np.ndarray, "push prompt"]:
        """P(first) of a batch under every push."""
        numbers, tokens = batch[0], batch[1].to(device)
        with crew.member(number) as bridge:
            residual = stream_at(bridge, tokens, site)
        mask = _pushed_tokens(prompts, numbers, half, tokens.shape[1]).to(residual)[..., None]
        moved = mask.any(dim=1)[:, 0]
        shares = np.empty((len(pushes), len(numbers)))
        if not moved.all():  # a push on neither option changes nothing
            logits = crew.resume(number, tokens[~moved], site, residual[~moved])[:, -1, labels]
            shares[:, ~moved.cpu().numpy()] = _share(logits)
        tokens, residual, mask = tokens[moved], residual[moved], mask[moved]
        # several pushes in one pass: entering a hook costs as much as a small pass
        size = max(1, batch_tokens // max(1, tokens.numel()))
        for start in range(0, len(pushes) if len(tokens) else 0, size):
            these = pushes[start : start + size].to(residual)[:, None, None]
            stream = (residual + mask * these).flatten(0, 1)
            logits = crew.resume(number, tokens.repeat(len(these), 1), site, stream)[:, -1, labels]
            shares[start : start + size, moved.cpu().numpy()] = _share(logits).reshape(len(these), -1)
        return shares

    p_first = np.zeros((len(pushes), len(prompts)))
    batches = list(_batches(prompts, batch_tokens))
    with bar(len(pushes) * len(prompts), "steer preferences") as shown:
        done = side_by_side(ask, batches, range(len(crew.bridges)))
        for (numbers, _), shares in zip(batches, done, strict=True):
            p_first[:, numbers] = shares
            shown.update(len(pushes) * len(numbers))
    if np.array_equal(p_first[1:], np.broadcast_to(p_first[0], p_first[1:].shape)):
        raise Failure(
            f"pushing on the options' tokens at {site} changed no answer",
            cure="check the hook name and the strength",
        )
    first, second = (np.array([getattr(prompt, side) for prompt in prompts]) for side in ("first", "second"))
    base, *moved = (fit_elo(first, second, row, len(half)).elo for row in p_first)
    rows = []
    for direction, elo in zip(directions, moved, strict=True):
        change = elo - base
        pushed, rest = change[half == 1], change[half == 0]
        delta = float(pushed.mean() - rest.mean())
        spread = 1.959964 * float(np.sqrt(pushed.var(ddof=1) / len(pushed) + rest.var(ddof=1) / len(rest)))
        rows.append((direction.name, direction.kind, strength, delta, delta - spread, delta + spread))
    return pd.DataFrame(rows, columns=["direction", "kind", "strength", "delta_elo", "ci_low", "ci_high"])


def effect_against_reading(correlations: pd.DataFrame, effects: pd.DataFrame) -> dict[str, float]:
    """Correlation over emotions of probe-Elo correlation and steering effect: `r, ci_low, ci_high, rho,
    n_emotions`.

    Both tables must be of one site.

    Raises:
        UserError: fewer than four emotions were both read and steered.
    """
    table = correlations.merge(effects[effects["kind"] == "emotion"], left_on="emotion", right_on="direction")
    if len(table) < 4:
        raise UserError(f"{len(table)} emotions were both read and steered", expected="at least four")
    r = float(np.corrcoef(table["r"], table["delta_elo"])[0, 1])
    low, high = fisher_interval(r, len(table))
    return {
        "r": r,
        "ci_low": low,
        "ci_high": high,
        "rho": float(spearmanr(table["r"], table["delta_elo"]).statistic),
        "n_emotions": len(table),
    }


def _correlations(
    columns: Float[np.ndarray, "activity column"], values: Float[np.ndarray, "activity"]
) -> Float[np.ndarray, "column"]:
    """Pearson correlation of every column with the values; 0 where one of them is constant."""
    x, y = columns - columns.mean(axis=0), values - values.mean()
    spread = np.sqrt((x**2).sum(axis=0) * (y**2).sum())
    return np.divide(y @ x, spread, out=np.zeros(x.shape[1]), where=spread > 0)


def _option_weights(
    prompts: Sequence[OptionPrompt], numbers: Int[np.ndarray, "batch"], n: int, length: int
) -> sparse.csr_matrix:
    """(activity, token of the batch): weights that sum the mean streams over the tokens of each offered
    activity.
    """
    rows, columns, values = [], [], []
    for row, number in enumerate(numbers):
        for activity, span in zip(
            (prompts[number].first, prompts[number].second), prompts[number].spans, strict=True
        ):
            size = span.stop - span.start
            rows += [activity] * size
            columns += range(row * length + span.start, row * length + span.stop)
            values += [1 / size] * size
    return sparse.csr_matrix((values, (rows, columns)), shape=(n, len(numbers) * length))


def _share(logits: Float[torch.Tensor, "prompt two"]) -> Float[np.ndarray, "prompt"]:
    """The first label's share among the two."""
    return logits.double().softmax(-1)[:, 0].cpu().numpy()


def _batches(prompts: Sequence[OptionPrompt], batch_tokens: int) -> Iterator[Batch]:
    for numbers, tokens in equal_length_groups([prompt.tokens for prompt in prompts]):
        size = max(1, batch_tokens // tokens.shape[1])
        for start in range(0, len(numbers), size):
            yield numbers[start : start + size], tokens[start : start + size]


def _pushed_tokens(
    prompts: Sequence[OptionPrompt],
    numbers: Int[np.ndarray, "batch"],
    half: Int[np.ndarray, "item"],
    length: int,
) -> torch.Tensor:
    """1 at the tokens of the options that belong to the pushed half."""
    mask = torch.zeros(len(numbers), length)
    for row, number in enumerate(numbers):
        prompt = prompts[number]
        for activity, span in zip((prompt.first, prompt.second), prompt.spans, strict=True):
            if half[activity]:
                mask[row, span] = 1.0
    return mask
