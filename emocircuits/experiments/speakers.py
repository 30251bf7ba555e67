"""Speaker directions: the emotion of who is speaking, of the other one, and of one that is felt but not
shown.

After Sofroniew et al. (2026): from dialogues of two people with different emotions, *present* directions are
those of the emotion of whoever the tokens belong to, *other* directions those of the other person's. From
dialogues in which one feels an emotion and says another, *felt* (deflection) and *shown* directions are
learned over what the masking speaker says. All are differences of means over the same tokens with different
labels, so a role that the model does not keep apart reads at chance.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.directions.learn import learn_directions
from emocircuits.directions.settings import DirectionSettings
from emocircuits.directions.summaries import summarise
from emocircuits.directions.validation import auroc_intervals
from emocircuits.errors import UserError
from emocircuits.experiments.geometry import layer_similarity

ROLES: Mapping[str, tuple[str, str]] = {
    "present": ("speaker", "emotion"),
    "other": ("speaker", "other"),
    "felt": ("masked", "emotion"),
    "shown": ("masked", "shown"),
}
"""Role -> kind of stretch and the label that is learned."""


def of_role(store: ActivationStore, role: str) -> ActivationStore:
    """The store with the role's label as the emotion."""
    return replace(store, prompts=store.prompts.assign(emotion=store.prompts[ROLES[role][1]]))


def speaker_directions(
    store: ActivationStore, settings: DirectionSettings, *, seed: int = 0
) -> dict[str, EmotionDirections]:
    """Directions of every role that the store has stretches for.

    Args:
        store: made by `collect_spans` from `speaker_spans` and `masked_spans`, with neutral texts.
        settings: how; kinds of story and the first token are set for each role.
        seed: seed of controls and resamples.

    Raises:
        UserError: no stretches of any role, or an emotion with too few of them in a split.
    """
    kinds = set(store.prompts["kind"])
    by_role = {
        role: learn_directions(
            of_role(store, role), replace(settings, story_kinds=(kind,), from_token=1), seed=seed
        )
        for role, (kind, _) in ROLES.items()
        if kind in kinds
    }
    if not by_role:
        raise UserError(
            "the store has no dialogues of two speakers and no masked ones",
            cure="collect speaker_spans or masked_spans",
        )
    return by_role


def role_readings(
    store: ActivationStore, by_role: Mapping[str, EmotionDirections], *, split: str = "held_out"
) -> pd.DataFrame:
    """How well each role's directions read each label on held-out stretches of their kind, at the reading
    site.

    Returns:
        `directions` (a role), `label` (a role of the same kind), `auroc, ci_low, ci_high` (mean over
        emotions). The diagonal is what a direction was learned for; next to it, 0.5 means that the other
        label cannot be read from it.
    """
    rows = []
    for role, directions in by_role.items():
        kind, site = ROLES[role][0], directions.read_site
        vectors = directions.vectors[directions.site_index(site)].astype(np.float64)
        codes = {emotion: code for code, emotion in enumerate(directions.emotions)}
        for label in [name for name in by_role if ROLES[name][0] == kind]:
            summary = summarise(of_role(store, label), from_token=1, story_kinds=(kind,), sites=[site])
            labels = np.array([codes.get(str(emotion), -1) for emotion in summary.stories["emotion"]])
            use = summary.of_split(split) & (labels >= 0)
            result = auroc_intervals(summary.story_means[use, 0] @ vectors.T, labels[use])
            rows.append((role, label, result.mean, result.mean_low, result.mean_high))
    return pd.DataFrame(rows, columns=["directions", "label", "auroc", "ci_low", "ci_high"])


def role_similarity(by_role: Mapping[str, EmotionDirections], *, seed: int = 0) -> pd.DataFrame:
    """How alike the directions of two roles are, at the reading site.

    Returns:
        `role, other, same` (mean cosine of the same emotion's two directions), `different` (of different
        emotions' directions), `structure, structure_low, structure_high` (Spearman correlation of the cosines
        between emotions, 95 % over emotions): roles can be near-orthogonal (same near 0) with the same
        structure (near 1).
    """
    rows = []
    for role, other in combinations(by_role, 2):
        shared = [emotion for emotion in by_role[role].emotions if emotion in by_role[other].emotions]
        site = by_role[role].read_site
        first, second = (
            np.stack([by_role[name].vector(emotion, site) for emotion in shared]).astype(np.float64)
            for name in (role, other)
        )
        between = first @ second.T
        apart = ~np.eye(len(shared), dtype=bool)
        line = layer_similarity(np.stack([first, second]), (role, other), seed=seed).iloc[1]
        rows.append(
            (
                role,
                other,
                float(np.diag(between).mean()),
                float(between[apart].mean()),
                line.rho,
                line.ci_low,
                line.ci_high,
            )
        )
    columns = ["role", "other", "same", "different", "structure", "structure_low", "structure_high"]
    return pd.DataFrame(rows, columns=columns)
