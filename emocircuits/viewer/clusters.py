"""The ten clusters of the 171 emotions: k-means over their directions (Sofroniew et al. 2026, Table 12)."""

import csv
from functools import cache
from importlib import resources


@cache
def emotion_clusters() -> dict[str, str]:
    """Emotion -> name of its cluster; emotions the paper does not name are absent."""
    text = (resources.files("emocircuits.viewer") / "emotion_clusters.csv").read_text(encoding="utf-8")
    return {row["emotion"]: row["cluster"] for row in csv.DictReader(text.splitlines())}
