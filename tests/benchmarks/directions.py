"""Emotion directions of the organism against what is known about its world.

`python -m tests.benchmarks.directions [RUN] [--quick] [--only PARTS]` prints one row per bar. RUN is a run of
the default recipe whose directions stage is done; it is made where there is none. PARTS: reading, latent,
steering, preference, cost.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from emocircuits.activations.residuals import length_batches, row_reader
from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.directions.estimator import leading_components
from emocircuits.directions.summaries import StoreSummary, summarise
from emocircuits.directions.validation import auroc_intervals
from emocircuits.experiments.emotion_limit import emotion_limits, story_of
from emocircuits.experiments.preference import Preferences
from emocircuits.experiments.steering import DoseResponse, DoseSettings, dose_response
from emocircuits.organism.emotion_posterior import shown_levels
from emocircuits.organism.world import APPRAISALS, lexicon
from emocircuits.progress import quiet
from emocircuits.runs.run import Run
from emocircuits.runs.sections import PreferenceSettings
from emocircuits.studies.direction_checks import learned_directions, preference_agreement, preference_study
from emocircuits.studies.steering import steering_tasks
from tests.benchmarks.bars import Row, at_least, at_most, beside, command, fresh_stories

PARTS = ("reading", "latent", "steering", "preference", "cost")
READER, PUSHER = "linear_discriminant", "difference_of_means"


@dataclass(frozen=True)
class Sizes:
    """How much is measured: fresh stories per emotion, prompts per behaviour, preferences, prompts timed."""

    fresh: int = 24
    prompts: int = 48
    preference: PreferenceSettings = PreferenceSettings("organism", emotions=171, steer_pairs=640)
    timed: int = 600


SMALL = Sizes(4, 8, PreferenceSettings("organism", pairs=192, steer_pairs=128, emotions=6), 60)


def measure(run: Run, small: bool, parts: tuple[str, ...] = PARTS) -> Iterator[Row]:
    """All rows, part by part."""
    sizes = SMALL if small else Sizes()
    learned = {
        name: learned_directions(run, replace(run.recipe.directions, estimator=name))
        for name in (READER, PUSHER)
    }
    for name in parts:
        with quiet():
            yield from {
                "reading": lambda: reading_rows(run, learned),
                "latent": lambda: latent_rows(run, learned, sizes),
                "steering": lambda: steering_rows(run, learned[PUSHER], sizes),
                "preference": lambda: preference_rows(run, learned[PUSHER], sizes),
                "cost": lambda: cost_rows(run, sizes),
            }[name]()


def reading_rows(run: Run, learned: dict[str, EmotionDirections]) -> Iterator[Row]:
    """AUROC at the reading site on held-out stories that never name an emotion, next to the best readers of
    the text.
    """
    prompts, emotions = run.store.prompts, learned[READER].emotions
    stories = prompts[(prompts["kind"] == "story") & prompts["emotion"].isin(emotions)]
    fit, held = (
        [story_of(name) for name in stories["id"][stories["split"] == split]]
        for split in ("train", "held_out")
    )
    limits = emotion_limits(fit, held, emotions)
    what = f"held-out AUROC, mean over {len(emotions)} emotions, unnamed stories"
    for name, directions in learned.items():
        line = directions.site_table().set_index("site").loc[directions.read_site]
        yield at_least(
            f"{what}: {name}",
            line["auroc"],
            0.85,
            f"[{line['auroc_low']:.3f}, {line['auroc_high']:.3f}] at {directions.read_site}",
        )
    codes = {emotion: code for code, emotion in enumerate(emotions)}
    first, second = (np.array([codes[str(one.emotion)] for one in part]) for part in (fit, held))
    levels = shown_levels(fit)
    means = np.stack([levels[first == code].mean(axis=0) for code in range(len(emotions))])
    plain = auroc_intervals(shown_levels(held) @ (means - means.mean(axis=0)).T, second)
    yield beside("the same of a difference of means of what the sentences say, known exactly", plain.mean)
    yield beside("the same of the best straight line through what the sentences say", limits.linear.mean)
    yield beside("the same of the generator's own posterior (Bayes limit)", limits.bayes.mean)


def latent_rows(run: Run, learned: dict[str, EmotionDirections], sizes: Sizes) -> Iterator[Row]:
    """Cosine with the ridge regression of the emotion's true latent on the residual stream of fresh stories.

    The estimator and the regression shrink alike (`directions.penalty`). A difference of means is no
    predictor but the change that the latent makes, so it is compared with the covariance of stream and latent
    (Haufe et al. 2014), neutral components projected out of both. The ceiling is √(reliability of the
    direction · reliability of the truth), both from split halves brought to full size (Spearman 1904, 1910).
    """
    how, emotion = run.recipe.directions, run.recipe.emotion
    fresh = fresh_stories(run, sizes.fresh)
    seen = summarise_stories(fresh.store, how.from_token)
    neutral = summarise(run.store, from_token=how.from_token, sites=(learned[READER].read_site,))
    for name, directions in learned.items():
        site, place = directions.read_site, directions.emotions.index(emotion)
        stream, latent = seen[directions.site_index(site)], fresh.latent[:, place]

        def truth(
            part: slice, name: str = name, stream: np.ndarray = stream, latent: np.ndarray = latent
        ) -> np.ndarray:
            pattern, predictor = _regression(stream[part], latent[part], how.penalty)
            return predictor if name == READER else _without(neutral, pattern, how.neutral_variance)

        # stories of one emotion lie side by side
        halves = _cosine(truth(slice(0, None, 2)), truth(slice(1, None, 2)))
        reliability = float(directions.quality["reliability_full"][directions.site_index(site), place])
        ceiling = float(np.sqrt(reliability * 2 * halves / (1 + halves)))
        cosine = _cosine(directions.vector(emotion, site).astype(np.float64), truth(slice(None)))
        r = float(np.corrcoef(stream @ _regression(stream, latent, how.penalty)[1], latent)[0, 1])
        what = "best linear predictor of" if name == READER else "change that goes with"
        yield at_least(
            (
                f"cosine of the {emotion} direction ({name}) with the {what} its latent, "
                "over the split-half ceiling"
            ),
            cosine / ceiling,
            0.9,
            f"cosine {cosine:.3f}, ceiling {ceiling:.3f}, the predictor's r with the latent {r:.2f}, "
            f"{len(latent):,} fresh stories, {site}",
        )


def _regression(
    stream: Float[np.ndarray, "story d_model"], latent: Float[np.ndarray, "story"], penalty: float
) -> tuple[Float[np.ndarray, "d_model"], Float[np.ndarray, "d_model"]]:
    """Covariance of stream and latent, and the ridge regression of the latent (penalty as in
    `EstimatorOptions`).
    """
    centred = stream - stream.mean(axis=0)
    pattern, cov = (latent - latent.mean()) @ centred / len(latent), centred.T @ centred / len(latent)
    return pattern, np.linalg.solve(cov + penalty * np.trace(cov) / len(cov) * np.eye(len(cov)), pattern)


def _cosine(first: Float[np.ndarray, "d_model"], second: Float[np.ndarray, "d_model"]) -> float:
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


def summarise_stories(store, start: int) -> Float[np.ndarray, "site story d_model"]:
    """Story means of a store without neutral texts, float64."""
    offsets, lengths = store.prompts["offset"].to_numpy(), store.prompts["n_tokens"].to_numpy()
    if (lengths <= start).any():
        raise ValueError(f"a fresh story has at most {start} tokens")
    found = []
    for site in store.sites:
        rows = store.read(site, slice(0, store.n_rows)).astype(np.float64)
        sums = np.add.reduceat(rows, np.stack([offsets + start, offsets + lengths], axis=1).ravel()[:-1])[::2]
        found.append(sums / (lengths - start)[:, None])
    return np.stack(found)


def _without(
    neutral: StoreSummary, vector: Float[np.ndarray, "d_model"], share: float
) -> Float[np.ndarray, "d_model"]:
    basis = leading_components(neutral.neutral_cov[0], share)
    return vector - basis @ (basis.T @ vector)


def steering_rows(run: Run, directions: EmotionDirections, sizes: Sizes) -> Iterator[Row]:
    """Slopes of the log-odds at the steering site, next to those of every random and content direction."""
    recipe = run.recipe
    tasks = steering_tasks(run, sizes.prompts)
    ends = (min(recipe.steer.strengths), max(recipe.steer.strengths))
    found = dose_response(
        run.model,
        tasks,
        directions.with_controls((recipe.emotion, recipe.opposite)),
        DoseSettings(strengths=ends, seed=recipe.seed),
    )
    for task in tasks:
        for emotion, sign in ((recipe.emotion, 1), (recipe.opposite, -1)):
            yield _slope_row(found, task.behaviour, emotion, sign)


def _slope_row(found: DoseResponse, behaviour: str, emotion: str, sign: int) -> Row:
    slopes = found.slopes[(found.slopes["behaviour"] == behaviour) & (found.slopes["metric"] == "logit_diff")]
    line = slopes[slopes["direction"] == emotion].iloc[0]
    controls = {kind: rows["slope"] for kind, rows in slopes.groupby("kind") if kind in ("random", "content")}
    largest = {kind: float((sign * rows).max()) for kind, rows in controls.items()}
    passes = sign * line["slope"] > max(largest.values()) and line["p_value"] <= 0.05
    note = ", ".join(
        f"largest of {len(controls[kind])} {kind} that way {sign * value:+.2f}"
        for kind, value in largest.items()
    )
    return Row(
        f"{behaviour}: slope of the log-odds along {emotion}",
        f"beyond all random and content, {'up' if sign > 0 else 'down'}, p ≤ 0.05",
        float(line["slope"]),
        bool(passes),
        f"[{line['ci_low']:.2f}, {line['ci_high']:.2f}], p = {line['p_value']:.3f}; {note}",
    )


def preference_rows(run: Run, directions: EmotionDirections, sizes: Sizes) -> Iterator[Row]:
    """Whether emotions that go with being liked make things liked."""
    _, table, found = preference_study(run, directions, sizes.preference)
    agreement = preference_agreement(table)
    random = table[table["kind"] == "random"]["delta_elo"]
    effects = table[table["kind"] == "emotion"]["delta_elo"].dropna()
    yield at_least(
        f"preference: r of probe–Elo correlation and steering ΔElo over {agreement['n_emotions']} emotions",
        agreement["r"],
        0.8,
        f"[{agreement['ci_low']:.2f}, {agreement['ci_high']:.2f}], {found.n_pairs:,} ordered pairs, "
        f"{table['site'].iloc[0]}; ΔElo {effects.min():+.0f} to {effects.max():+.0f}, of {len(random)} "
        f"random directions {random.min():+.0f} to {random.max():+.0f}",
    )
    emotions = table[table["kind"] == "emotion"].dropna(subset=["delta_elo"])
    yield beside("the same of ranks (Spearman)", agreement["rho"])
    yield beside(
        (
            "reliability of the probe–Elo correlations over emotions, halves of the "
            "activities brought to full size"
        ),
        _reading_reliability(found, table["site"].iloc[0]),
    )
    for column, what in (("r", "probe–Elo correlation"), ("delta_elo", "steering ΔElo")):
        share, weights = _appraisal_weights(emotions[column].to_numpy(float), tuple(emotions["direction"]))
        shown = ", ".join(f"{name} {weight:+.2f}" for name, weight in zip(APPRAISALS, weights, strict=True))
        yield beside(
            f"{what} of an emotion as a linear function of its true appraisals, R²",
            share,
            f"in its own spreads per unit: {shown}",
        )


def _reading_reliability(found: Preferences, site: str, splits: int = 50) -> float:
    """Spearman–Brown corrected correlation over emotions between readings' correlations with Elo in two
    halves of the activities.
    """
    readings, elo = found.readings[found.sites.index(site)], found.ratings.elo
    source, halves = np.random.default_rng(0), []
    for _ in range(splits):
        order = source.permutation(len(elo))
        first, second = (
            [np.corrcoef(column, elo[part])[0, 1] for column in readings[part].T]
            for part in (order[::2], order[1::2])
        )
        halves.append(np.corrcoef(first, second)[0, 1])
    half = float(np.mean(halves))
    return 2 * half / (1 + half)


def _appraisal_weights(
    values: Float[np.ndarray, "emotion"], emotions: tuple[str, ...]
) -> tuple[float, Float[np.ndarray, "appraisal"]]:
    """Share of the variance that a linear function of the emotions' coordinates explains, and its
    standardised weights.
    """
    known = lexicon()
    coordinates = known.coordinates[[known.index(emotion) for emotion in emotions]]
    centred, values = coordinates - coordinates.mean(axis=0), (values - values.mean()) / values.std()
    weights = np.linalg.lstsq(centred, values, rcond=None)[0]
    return float(1 - ((values - centred @ weights) ** 2).mean()), weights


def cost_rows(run: Run, sizes: Sizes) -> Iterator[Row]:
    """Processor time of the directions over that of the forward passes, so that other work on the machine
    does not count.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        store = run.store
        begin = time.process_time()
        learned_directions(run, run.recipe.directions)
        seconds = time.process_time() - begin
        forward = _forward_seconds(run, sizes.timed)
    finally:
        torch.set_num_threads(threads)
    yield at_most(
        f"all {len(run.directions.emotions)} directions at {len(store.sites)} sites, controls and "
        "intervals, over the forward passes",
        seconds / forward,
        0.05,
        f"{seconds:.2f} s of {forward:.1f} s, one thread, {store.n_prompts:,} texts, {store.n_rows:,} tokens",
    )


def _forward_seconds(run: Run, n: int) -> float:
    """Processor seconds of the forward passes over all texts, from a sample of them in batches like those of
    collect.
    """
    store, model = run.store, run.model
    offsets, lengths = store.prompts["offset"].to_numpy(), store.prompts["n_tokens"].to_numpy()
    chosen = np.arange(0, store.n_prompts, max(1, store.n_prompts // n))
    tokens = [store.tokens[offsets[place] : offsets[place] + lengths[place]] for place in chosen]
    with row_reader(model, model.sites[-1:]) as read:
        read(tokens[:8])
        begin = time.process_time()
        for batch in length_batches(lengths[chosen], 4096):
            read([tokens[place] for place in batch])
        return (time.process_time() - begin) * store.n_rows / lengths[chosen].sum()


if __name__ == "__main__":
    command(__doc__.splitlines()[0], measure, PARTS, "directions")
