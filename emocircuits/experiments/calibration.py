"""Thresholds of a monitor: readings that neutral text exceeds at a stated rate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.errors import UserError
from emocircuits.experiments.readings import stream_reader, token_readings
from emocircuits.models.language_model import LanguageModel


@dataclass(frozen=True)
class Calibration:
    """Thresholds and what they were calibrated on.

    Attributes:
        thresholds: emotion -> reading that is too high.
        false_positive_rate: what was asked for, per token.
        tokens: neutral tokens.
        window: readings are averaged over so many tokens before they are compared.
    """

    thresholds: dict[str, float]
    false_positive_rate: float
    tokens: int
    window: int = 1


def calibrate(
    model: LanguageModel,
    directions: EmotionDirections,
    texts: Sequence[str],
    emotions: Sequence[str],
    *,
    false_positive_rate: float = 0.01,
    window: int = 1,
    site: str | None = None,
) -> Calibration:
    """The least thresholds that neutral tokens exceed at most at the stated rate.

    The threshold is the ceil((n + 1)(1 - rate))-th smallest of n neutral readings, so that the rate holds in
    expectation for further tokens of such text and not just for these (conformal; Vovk et al. 2005).

    Args:
        model: the model.
        directions: its directions.
        texts: neutral texts.
        emotions: which readings.
        false_positive_rate: per token, above 0 and below 1.
        window: tokens that a reading is averaged over.
        site: where to read; the directions' reading site by default.

    Raises:
        UserError: a rate that so few tokens cannot show, or no texts.
    """
    _check_rate(false_positive_rate, window)
    if not texts:
        raise UserError(
            "there are no neutral texts to calibrate on", cure="give a file of neutral texts, one a line"
        )
    readings = token_readings(
        model, directions, [model.encode(text) for text in texts], list(emotions), site=site
    )
    long = [values[1:] for values in readings if len(values) > 1]
    if not long:
        raise UserError(
            f"{len(texts)} neutral texts of one token each, and the first token of a text has no reading",
            expected="longer texts",
        )
    return _calibrated(long, emotions, false_positive_rate, window)


def calibrate_on_store(
    store: ActivationStore,
    directions: EmotionDirections,
    emotions: Sequence[str],
    *,
    false_positive_rate: float = 0.01,
    window: int = 1,
) -> Calibration:
    """`calibrate` on the neutral texts that a store holds the activations of, without running the model; the
    same thresholds up to the precision of the store.

    Args:
        store: activations of the directions' model, with neutral texts.
        directions: the directions.
        emotions: which readings.
        false_positive_rate, window: see `calibrate`.

    Raises:
        UserError: a store of another model or without neutral texts or the reading site, or see `calibrate`.
    """
    _check_rate(false_positive_rate, window)
    neutral = (store.prompts["kind"] == "neutral").to_numpy()
    rows = store.select(neutral, start=1)
    site = directions.read_site
    if store.metadata.get("model_hash") != directions.model_hash or site not in store.sites or not len(rows):
        raise UserError(
            f"the activations in {store.path} are no neutral texts of the directions' model at {site}",
            cure="give a file of neutral texts, one a line",
        )
    values = stream_reader(directions, emotions, site)(store.read(site, rows))
    ends = np.flatnonzero(np.diff(store.prompt_index[rows])) + 1
    return _calibrated(np.split(values, ends), emotions, false_positive_rate, window)


def _check_rate(false_positive_rate: float, window: int) -> None:
    if not 0 < false_positive_rate < 1 or window < 1:
        raise UserError(
            f"false-positive rate {false_positive_rate} with a window of {window}",
            expected="a rate between 0 and 1, a window of 1 or more",
        )


def _calibrated(
    long: Sequence[Float[np.ndarray, "_ emotion"]],
    emotions: Sequence[str],
    false_positive_rate: float,
    window: int,
) -> Calibration:
    """Thresholds from the readings of texts without their first tokens."""
    pooled = np.concatenate([_pooled(values, window) for values in long])
    rank = int(np.ceil((len(pooled) + 1) * (1 - false_positive_rate)))
    if rank > len(pooled):
        raise UserError(
            f"{len(pooled)} neutral tokens for a false-positive rate of {false_positive_rate:g}",
            expected=f"at least {int(np.ceil(1 / false_positive_rate))} tokens",
            cure="give more neutral text or a higher rate",
        )
    thresholds = np.sort(pooled, axis=0)[rank - 1]
    return Calibration(
        dict(zip(emotions, map(float, thresholds), strict=True)), false_positive_rate, len(pooled), window
    )


def _pooled(values: Float[np.ndarray, "pos emotion"], window: int) -> Float[np.ndarray, "pos emotion"]:
    """Mean of the last `window` readings at every token, of as many as there are at the beginning."""
    total = np.cumsum(np.concatenate([np.zeros((1, values.shape[1])), values]), axis=0)
    stop = np.arange(1, len(values) + 1)
    start = np.maximum(0, stop - window)
    return (total[stop] - total[start]) / (stop - start)[:, None]
