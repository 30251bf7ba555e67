"""From an activation store to emotion directions with controls and held-out scores."""

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Int

from emocircuits.artifacts.activation_store import ActivationStore
from emocircuits.artifacts.emotion_directions import ControlDirections, EmotionDirections
from emocircuits.directions.controls import content_directions, random_directions, shuffled_directions, unit_rows
from emocircuits.directions.estimator import ESTIMATORS
from emocircuits.directions.summaries import StoreSummary, summarise
from emocircuits.directions.validation import held_out_auroc
from emocircuits.errors import UserError, unknown
from emocircuits.provenance import Provenance


@dataclass(frozen=True)
class DirectionSettings:
    """How directions are learned.

    Attributes:
        emotions: which emotions; None means all that the stories show.
        estimator: name of the estimator.
        from_token: first token of a story that counts (the paper: 50).
        neutral_variance: share of neutral variance projected out (the paper: 0.5).
        story_kinds, neutral_kinds: kinds of text used as stories and as neutral text.
        named: use stories that name the emotion (True), that do not (False), or both (None).
        fit_split, held_out_split: splits of stories for learning and for the AUROC.
        min_stories: fewest stories an emotion needs in each split.
        control_emotion: the emotion whose labels are shuffled; None takes `desperate` or else the first.
        content_topics: topics of the content directions; None takes those with the most stories.
        n_random, n_content, n_shuffled: numbers of control directions.
        read_depth, steer_depth: default sites as fractions of depth (the paper: about 2/3 and the middle).
        seed: seed of the controls.
    """

    emotions: tuple[str, ...] | None = None
    estimator: str = "difference_of_means"
    from_token: int = 50
    neutral_variance: float = 0.5
    story_kinds: tuple[str, ...] = ("story",)
    neutral_kinds: tuple[str, ...] = ("neutral",)
    named: bool | None = False
    fit_split: str = "train"
    held_out_split: str = "held_out"
    min_stories: int = 2
    control_emotion: str | None = None
    content_topics: tuple[str, ...] | None = None
    n_random: int = 20
    n_content: int = 5
    n_shuffled: int = 5
    read_depth: float = 2 / 3
    steer_depth: float = 0.5
    seed: int = 0


def learn_directions(
    store: ActivationStore, settings: DirectionSettings | None = None, *, summary: StoreSummary | None = None
) -> EmotionDirections:
    """Directions of all emotions at all sites, with random, content and shuffled controls.

    Args:
        store: activations of labelled stories and neutral texts.
        settings: how.
        summary: the store's statistics, when they are already there (they must fit the settings).

    Raises:
        UserError: an unknown emotion or topic, or an emotion with too few stories in a split.
    """
    how = settings or DirectionSettings()
    estimator = ESTIMATORS.get(how.estimator)
    if summary is None:
        summary = summarise(store, from_token=how.from_token, story_kinds=how.story_kinds, neutral_kinds=how.neutral_kinds, named=how.named)
    emotions = _emotions(summary, how)
    fit, fit_labels = _labelled(summary, emotions, how.fit_split, how.min_stories)
    held, held_labels = _labelled(summary, emotions, how.held_out_split, how.min_stories)
    raw, centre = estimator(summary, fit, fit_labels, len(emotions), neutral_variance=how.neutral_variance)
    vectors = unit_rows(raw)
    control = _control_emotion(emotions, how)
    controls: dict[str, ControlDirections] = {
        "random": random_directions(len(summary.sites), store.d_model, n=how.n_random, seed=how.seed),
        "shuffled": shuffled_directions(
            summary, fit, fit_labels, len(emotions), estimator, emotion=emotions.index(control), emotion_name=control,
            n=how.n_shuffled, seed=how.seed, neutral_variance=how.neutral_variance),
    }
    if how.n_content or how.content_topics:
        controls["content"] = content_directions(summary, fit, estimator, topics=how.content_topics, n=how.n_content,
                                                 neutral_variance=how.neutral_variance)
    return EmotionDirections(
        vectors=vectors,
        norms=np.linalg.norm(raw, axis=-1).astype(np.float32),
        mean=centre.astype(np.float32),
        residual_norm=summary.residual_norm.astype(np.float32),
        held_out_auroc=held_out_auroc(summary.story_means[held], held_labels, vectors).astype(np.float32),
        sites=summary.sites,
        emotions=emotions,
        estimator=how.estimator,
        settings={**_plain(how), "control_emotion": control, "n_stories": len(fit), "n_held_out": len(held)},
        controls=controls,
        model_hash=str(store.metadata.get("model_hash", "")),
        read_site=site_at_depth(summary.sites, how.read_depth),
        steer_site=site_at_depth(summary.sites, how.steer_depth),
        provenance=Provenance(command="directions", seed=how.seed, inputs={"activations": store.content_hash}, settings=_plain(how)),
    )


def site_at_depth(sites: tuple[str, ...], depth: float | int) -> str:
    """The first site at or behind a fraction of depth (site i of n lies at (i + 1) / n)."""
    return sites[min(len(sites) - 1, max(0, int(np.ceil(depth * len(sites) - 1e-9)) - 1))]


def _emotions(summary: StoreSummary, how: DirectionSettings) -> tuple[str, ...]:
    found = list(dict.fromkeys(map(str, summary.stories["emotion"])))
    if how.emotions is None:
        emotions = tuple(sorted(found))
    else:
        for emotion in how.emotions:
            if emotion not in found:
                raise unknown("emotion", emotion, found)
        emotions = tuple(how.emotions)
    if len(emotions) < 2:
        raise UserError(f"the stories show {len(emotions)} emotion", expected="at least two: a direction is a difference from the others")
    return emotions


def _labelled(
    summary: StoreSummary, emotions: tuple[str, ...], split: str, fewest: int
) -> tuple[Int[np.ndarray, "chosen"], Int[np.ndarray, "chosen"]]:
    codes = {emotion: code for code, emotion in enumerate(emotions)}
    labels = np.array([codes.get(str(emotion), -1) for emotion in summary.stories["emotion"]])
    chosen = np.flatnonzero(summary.of_split(split) & (labels >= 0))
    counts = np.bincount(labels[chosen], minlength=len(emotions))
    if (counts < fewest).any():
        poorest = int(counts.argmin())
        raise UserError(f"the emotion '{emotions[poorest]}' has {counts[poorest]} stories in the split '{split}'",
                        expected=f"at least {fewest}", cure="collect more stories or leave the emotion out")
    return chosen, labels[chosen]


def _control_emotion(emotions: tuple[str, ...], how: DirectionSettings) -> str:
    name = how.control_emotion or ("desperate" if "desperate" in emotions else emotions[0])
    if name not in emotions:
        raise unknown("emotion", name, emotions)
    return name


def _plain(how: DirectionSettings) -> dict:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(how).items()}
