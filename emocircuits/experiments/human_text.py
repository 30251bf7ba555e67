"""Directions on texts that people wrote and labelled: mean residuals of the texts, and how well directions
tell their emotions apart.

Directions are scored as they are on all texts. How many components of neutral text are best projected out of
them is a choice; it is made on a random half of the texts and scored on the other half.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from emocircuits.activations.residuals import length_batches, row_reader
from emocircuits.directions.human_scores import HumanScore, HumanSettings, human_score, two_halves, without
from emocircuits.directions.validation import one_vs_others_auroc
from emocircuits.models.language_model import LanguageModel
from emocircuits.progress import bar

AS_THEY_ARE = "as they are"


@dataclass(frozen=True, eq=False)
class TextMeans:
    """Mean residuals of texts.

    Attributes:
        means: per site and text; zero where a text was not read.
        read: which texts had a token that counts at every site.
        n_tokens: tokens that counted at the first site.
        n_long: tokens that were left out as too long, at any site.
        n_cut: texts longer than the context, of which the beginning was read.
    """

    means: Float[np.ndarray, "site text d_model"]
    read: Bool[np.ndarray, "text"]
    n_tokens: int
    n_long: int
    n_cut: int


def text_means(
    model: LanguageModel,
    texts: Sequence[str],
    limits: Mapping[str, float],
    *,
    from_token: int = 1,
    batch_tokens: int = 2048,
) -> TextMeans:
    """The mean residual stream of every text from a token on.

    Args:
        model: the model.
        texts: the texts, without BOS.
        limits: of every site that is read the norm from which a token does not count: a few tokens that
            carry no text (attention sinks after position 0) can be a hundred times as long as all others.
        from_token: first position that counts, at least 1.
        batch_tokens: tokens (with padding) per forward pass.
    """
    whole = [np.asarray(ids, dtype=np.int64) for ids in model.encode_batch(list(texts))]
    ids = [tokens[: model.n_ctx] for tokens in whole]
    lengths = np.array([len(tokens) for tokens in ids])
    enough = np.flatnonzero(lengths > from_token)
    means = np.zeros((len(limits), len(texts), model.d_model), dtype=np.float32)
    read = lengths > from_token
    n_tokens = n_long = 0
    with row_reader(model, tuple(limits)) as rows_of, bar(int(lengths[enough].sum()), "human text") as shown:
        for batch in length_batches(lengths[enough], batch_tokens):
            numbers = enough[batch]
            streams, ends = rows_of([ids[number] for number in numbers]), np.cumsum(lengths[numbers])
            for place, (site, limit) in enumerate(limits.items()):
                for number, end in zip(numbers, ends, strict=True):
                    rows = streams[site][end - lengths[number] + from_token : end]
                    kept = rows[np.linalg.norm(rows, axis=1) <= limit]
                    n_long += len(rows) - len(kept)
                    n_tokens += len(kept) if place == 0 else 0
                    read[number] &= len(kept) > 0
                    if len(kept):
                        means[place, number] = kept.mean(axis=0, dtype=np.float64)
            shown.update(int(lengths[numbers].sum()))
    cut = sum(len(tokens) > model.n_ctx for tokens in whole)
    return TextMeans(means, read, n_tokens, n_long, cut)


@dataclass(frozen=True, eq=False)
class Cleaning:
    """What directions are cleaned of.

    Attributes:
        raw: directions of which nothing was projected out.
        basis: principal components of neutral text, the largest first, as columns.
        done: how many of them the directions as they are are free of.
    """

    raw: Float[np.ndarray, "emotion d_model"]
    basis: Float[np.ndarray, "d_model component"]
    done: int


def human_tables(
    texts: Float[np.ndarray, "text d_model"],
    labels: Int[np.ndarray, "text"],
    vectors: Float[np.ndarray, "emotion d_model"],
    how: HumanSettings,
    cleaning: Cleaning | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores at one site.

    Args:
        texts: mean residual of every text.
        labels: the emotion of every text, a row of `vectors`.
        vectors: the directions as they are.
        how: numbers of draws, and the numbers of components to try.
        cleaning: what may be projected out; None scores the directions as they are only.

    Returns:
        One row per set of directions: `directions, components` (projected out; missing where that is not
        known), `texts` (`all`, or `half` for the second half, which is scored with the number of components
        that is best on the first), `n, first_half` (the mean on the first half) and `HumanScore.row`; the row
        of the half also has `gain, gain_low, gain_high` over the directions as they are on these texts. And
        one row per emotion: `n, auroc, auroc_low, auroc_high` of the directions as they are, `cleaned` with
        its interval of the chosen ones on the second half.
    """
    first, second = two_halves(labels, how.seed)

    def tried(vectors: np.ndarray, basis: np.ndarray | None) -> float:
        scores = texts[first].astype(np.float64) @ without(vectors.astype(np.float64), basis).T
        return float(one_vs_others_auroc(scores, labels[first]).mean())

    whole = human_score(texts, labels, vectors, how)
    done = None if cleaning is None else cleaning.done
    rows = [_row(AS_THEY_ARE, done, "all", len(labels), whole) | {"first_half": tried(vectors, None)}]
    emotions = pd.DataFrame(
        {
            "n": np.bincount(labels, minlength=len(vectors)),
            "auroc": whole.auroc.auroc,
            "auroc_low": whole.auroc.low,
            "auroc_high": whole.auroc.high,
        }
    )
    if cleaning is None:
        return pd.DataFrame(rows), emotions
    for n in sorted(n for n in set(how.components) if n <= cleaning.basis.shape[1]):
        score = human_score(texts, labels, cleaning.raw, how, cleaning.basis[:, :n])
        rows.append(
            _row("cleaned", n, "all", len(labels), score)
            | {"first_half": tried(cleaning.raw, cleaning.basis[:, :n])}
        )
    best = max(rows[1:], key=lambda row: (row["first_half"], -row["components"]))["components"]
    plain = human_score(texts[second], labels[second], vectors, how)
    chosen = human_score(texts[second], labels[second], cleaning.raw, how, cleaning.basis[:, :best])
    low, high = np.quantile(chosen.draws - plain.draws, [0.025, 0.975])
    rows.append(_row(AS_THEY_ARE, done, "half", len(second), plain))
    rows.append(
        _row("cleaned", best, "half", len(second), chosen)
        | {
            "gain": chosen.auroc.mean - plain.auroc.mean,
            "gain_low": float(low),
            "gain_high": float(high),
        }
    )
    emotions = emotions.assign(
        cleaned=chosen.auroc.auroc, cleaned_low=chosen.auroc.low, cleaned_high=chosen.auroc.high
    )
    return pd.DataFrame(rows), emotions


def _row(directions: str, components: int | None, texts: str, n: int, score: HumanScore) -> dict[str, object]:
    return {"directions": directions, "components": components, "texts": texts, "n": n, **score.row()}
