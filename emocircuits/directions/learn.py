"""From an activation store to emotion directions with controls, held-out scores and intervals.

Every site is read once and on its own: what is held in memory is one site's class means, replicates and
held-out stories (at most `max_held_out` per emotion), whatever the number of stories. Estimators that must
see each story (`needs_stories`) also hold one site's story means.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from jaxtyping import Int

from emocircuits.artifacts.directions import ControlDirections, EmotionDirections
from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.directions.confounds import check_confound, topic_confound
from emocircuits.directions.controls import choose_topics, random_directions, unit_rows
from emocircuits.directions.design import chosen_emotions, make_design, story_topics
from emocircuits.directions.estimator import Estimator, EstimatorOptions, without_neutral
from emocircuits.directions.estimators import ESTIMATORS
from emocircuits.directions.resampling import direction_quality
from emocircuits.directions.settings import DirectionSettings, chosen_sites
from emocircuits.directions.statistics import (
    ClassStatistics,
    Design,
    LabelledStories,
    SiteStatistics,
    site_statistics,
)
from emocircuits.directions.story_blocks import plan_stories
from emocircuits.directions.validation import auroc_intervals, naming_accuracy, standardised_projections
from emocircuits.errors import unknown
from emocircuits.names import layer_of
from emocircuits.progress import track
from emocircuits.provenance import Provenance
from emocircuits.threads import side_by_side


@dataclass(frozen=True, eq=False)
class _Site:
    """What is kept of one site."""

    raw: np.ndarray
    centre: np.ndarray
    residual_norm: float
    controls: dict[str, np.ndarray]
    quality: dict[str, np.ndarray]
    site_quality: dict[str, float]


def learn_directions(
    store: ActivationStore,
    settings: DirectionSettings | None = None,
    *,
    emotions: Sequence[str] | None = None,
    control_emotion: str | None = None,
    seed: int = 0,
    workers: int = 1,
) -> EmotionDirections:
    """Directions of all emotions at all sites, with random, covariance-matched, content and shuffled
    controls.

    Args:
        store: activations of labelled stories and neutral texts.
        settings: how.
        emotions: which emotions; None takes all that the stories show.
        control_emotion: the emotion whose labels are shuffled; None takes `desperate` or else the first.
        seed: seed of controls and resamples.
        workers: sites worked on at the same time, one thread each; the result does not depend on it.

    Raises:
        UserError: an unknown emotion or topic, an emotion with too few stories in a split, or a topic that
            gives it away.
    """
    how = settings or DirectionSettings()
    estimator = ESTIMATORS.get(how.estimator)
    options = EstimatorOptions(how.neutral_variance, how.centre, how.penalty)
    sites, read_site, steer_site = chosen_sites(store.sites, how, depth_of_model(store))
    plan = plan_stories(
        store,
        from_token=how.from_token,
        story_kinds=how.story_kinds,
        neutral_kinds=how.neutral_kinds,
        named=how.named,
        token_norm=how.token_norm,
    )
    emotions = chosen_emotions(plan, emotions)
    topics, topic_codes = story_topics(plan, emotions, how.fit_split)
    design = make_design(plan, emotions, topics, topic_codes, how, estimator, seed)
    fit, held = design.labels >= 0, design.held_out >= 0
    confound = topic_confound(
        design.labels[fit],
        topic_codes[fit],
        design.held_out[held],
        topic_codes[held],
        len(emotions),
        len(topics),
    )
    check_confound(confound, limit=how.max_topic_v, centre=how.centre)
    content: tuple[str, ...] = ()
    if how.content_controls or how.content_topics:
        counts = np.bincount(design.topics[design.topics >= 0], minlength=len(topics))
        content = choose_topics(topics, counts.tolist(), how.content_topics or None, how.content_controls)
    control = _control_emotion(emotions, control_emotion)
    chosen_topics = [topics.index(topic) for topic in content]

    def learn(_: int, site: str) -> _Site:
        statistics = site_statistics(store, plan, site, design)
        return _learn_site(statistics, design, estimator, options, emotions.index(control), chosen_topics)

    learned_sites = side_by_side(learn, sites, range(workers))
    by_site = list(track(learned_sites, "directions", total=len(sites)))
    names = {
        "covariance": tuple(f"covariance {number}" for number in range(how.covariance_controls)),
        "shuffled": tuple(f"{control} shuffled {number}" for number in range(how.shuffled_controls)),
        "content": content,
    }
    controls = {"random": random_directions(len(sites), store.d_model, n=how.random_controls, seed=seed)}
    controls |= {
        kind: ControlDirections(
            names[kind], unit_rows(np.stack([learned.controls[kind] for learned in by_site]))
        )
        for kind in ("covariance", "shuffled", "content")
        if names[kind] or kind == "shuffled"
    }
    raw = np.stack([learned.raw for learned in by_site])
    return EmotionDirections(
        vectors=unit_rows(raw),
        norms=np.linalg.norm(raw, axis=-1).astype(np.float32),
        mean=np.stack([learned.centre for learned in by_site]).astype(np.float32),
        residual_norm=np.array([learned.residual_norm for learned in by_site], dtype=np.float32),
        held_out_auroc=np.stack([learned.quality["auroc"] for learned in by_site]).astype(np.float32),
        sites=sites,
        emotions=emotions,
        estimator=how.estimator,
        settings={
            **_plain(how),
            "control_emotion": control,
            "n_stories": int(fit.sum()),
            "n_held_out": int(held.sum()),
            "topic_cramers_v": confound.cramers_v,
            "topic_auroc": confound.auroc,
        },
        controls=controls,
        model_hash=str(store.metadata.get("model_hash", "")),
        read_site=read_site,
        steer_site=steer_site,
        quality={
            name: np.stack([learned.quality[name] for learned in by_site]).astype(np.float32)
            for name in by_site[0].quality
            if name != "auroc"
        },
        site_quality={
            name: np.array([learned.site_quality[name] for learned in by_site])
            for name in by_site[0].site_quality
        },
        provenance=Provenance(
            command="directions",
            seed=seed,
            inputs={"activations": store.content_hash},
            settings=_plain(how),
        ),
    )


def _learn_site(
    statistics: SiteStatistics,
    design: Design,
    estimator: Estimator,
    options: EstimatorOptions,
    control: int,
    content: list[int],
) -> _Site:
    own = statistics.emotions
    raw = estimator.fit(own, options)
    vectors = unit_rows(raw).astype(np.float64)
    mixed = [
        _relabelled(statistics.shuffled, draw, own.stories, design.permuted[draw, design.labels >= 0])
        for draw in range(len(design.permuted))
    ]
    controls = {
        "shuffled": np.array([estimator.fit(relabelled, options)[control] for relabelled in mixed]).reshape(
            -1, raw.shape[-1]
        ),
        "covariance": without_neutral(statistics.random, own.neutral_cov, options.neutral_variance),
    }
    if content:
        topics = replace(statistics.topics, stories=_of_topics(own.stories, design))
        # topics have no topics to be centred on: their directions are taken from the plain mean
        plain = replace(options, centre="emotions") if options.centre == "topics" else options
        controls["content"] = estimator.fit(topics, plain)[content]
    labels = design.held_out[design.held_out >= 0]
    held = auroc_intervals(statistics.held_out @ vectors.T, labels)
    named = standardised_projections(
        statistics.held_out, vectors, statistics.total_mean, statistics.total_cov
    )
    accuracy, top5 = (naming_accuracy(named, labels, top=top) for top in (1, 5))
    quality = {"auroc": held.auroc, "auroc_low": held.low, "auroc_high": held.high}
    site_quality = {"auroc": held.mean, "auroc_low": held.mean_low, "auroc_high": held.mean_high}
    for name, values in (("accuracy", accuracy), ("top5_accuracy", top5)):
        site_quality |= dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
    return _Site(
        raw,
        own.means.mean(axis=0),
        statistics.moments.residual_norm,
        controls,
        {**quality, **direction_quality(estimator, options, statistics, design, raw)},
        site_quality,
    )


def _relabelled(
    shuffled: ClassStatistics, draw: int, stories: LabelledStories | None, labels: Int[np.ndarray, "fit"]
) -> ClassStatistics:
    moved = None if stories is None else LabelledStories(stories.means, labels, stories.weights)
    return replace(shuffled, means=shuffled.means[draw], weights=shuffled.weights[draw], stories=moved)


def _of_topics(stories: LabelledStories | None, design: Design) -> LabelledStories | None:
    if stories is None:
        return None
    codes = design.topics[design.labels >= 0]
    return LabelledStories(stories.means[codes >= 0], codes[codes >= 0], stories.weights[codes >= 0])


def _control_emotion(emotions: tuple[str, ...], asked: str | None) -> str:
    name = asked or ("desperate" if "desperate" in emotions else emotions[0])
    if name not in emotions:
        raise unknown("emotion", name, emotions)
    return name


def _plain(how: DirectionSettings) -> dict:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(how).items()}


def depth_of_model(store: ActivationStore) -> int:
    """Blocks of the model; where the store does not say it, up to the last that it has activations of."""
    return int(store.metadata.get("n_layers") or max(map(layer_of, store.sites)) + 1)
