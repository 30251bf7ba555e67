"""Whether a topic gives the emotion away: then a direction of the emotion may be a direction of the topic."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from emocircuits.directions.validation import one_vs_others_auroc
from emocircuits.errors import UserError

WARN = 0.2


@dataclass(frozen=True)
class TopicConfound:
    """How far topics predict emotions.

    Attributes:
        cramers_v: association of topic and emotion over the stories to learn from, 0 (none) to 1 (the topic
            decides), corrected for the number of stories (Bergsma 2013).
        auroc: mean one-against-others AUROC on held-out stories of P(emotion | topic) counted over the
            stories to learn from: what a direction could reach by knowing nothing but the topic. 0.5 where
            there are no topics.
    """

    cramers_v: float
    auroc: float

    @property
    def warning(self) -> str | None:
        """One line where the topic says much about the emotion."""
        if self.cramers_v < WARN and self.auroc < 0.5 + WARN:
            return None
        return (
            f"topics predict the emotions (Cramér's V {self.cramers_v:.2f}, AUROC of the topic alone "
            f"{self.auroc:.2f}): directions may be directions of topics; write every emotion on the same "
            "topics, or set the centre to 'topics'"
        )


def topic_confound(
    labels: Int[np.ndarray, "fit"],
    topics: Int[np.ndarray, "fit"],
    held_labels: Int[np.ndarray, "held"],
    held_topics: Int[np.ndarray, "held"],
    n_labels: int,
    n_topics: int,
) -> TopicConfound:
    """Counts emotions by topic; a code of -1 is a story without a topic."""
    use, held = topics >= 0, held_topics >= 0
    if n_topics < 2 or not use.any():
        return TopicConfound(0.0, 0.5)
    table = np.zeros((n_labels, n_topics))
    np.add.at(table, (labels[use], topics[use]), 1.0)
    n = table.sum()
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    phi2 = float(
        (np.divide((table - expected) ** 2, expected, out=np.zeros_like(table), where=expected > 0)).sum() / n
    )
    rows, columns = (int((table.sum(axis=axis) > 0).sum()) for axis in (1, 0))
    bias = (rows - 1) * (columns - 1) / max(1.0, n - 1)
    fewest = min(rows - (rows - 1) ** 2 / max(1.0, n - 1), columns - (columns - 1) ** 2 / max(1.0, n - 1)) - 1
    v = float(np.sqrt(max(0.0, phi2 - bias) / fewest)) if fewest > 0 else 0.0
    auroc = 0.5
    if held.any():
        given = (table / np.maximum(table.sum(axis=0), 1)).T[held_topics[held]]
        aurocs = one_vs_others_auroc(given, held_labels[held])
        auroc = float(np.nanmean(aurocs)) if np.isfinite(aurocs).any() else 0.5
    return TopicConfound(min(1.0, v), auroc)


def check_confound(confound: TopicConfound, *, limit: float, centre: str) -> None:
    """Refuses stories whose topic all but decides the emotion, unless topics are what is centred on.

    Raises:
        UserError: Cramér's V above the limit.
    """
    if confound.cramers_v > limit and centre != "topics":
        raise UserError(
            f"the topic predicts the emotion: Cramér's V {confound.cramers_v:.2f}, AUROC of the "
            f"topic alone {confound.auroc:.2f}",
            expected=f"a V of at most {limit:g}",
            cure="write every emotion on the same topics; or set the centre to 'topics' or raise "
            "max_topic_v, and say so",
        )
