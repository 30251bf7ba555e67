"""The table of matches: the best features of every emotion at every site, those that are kept first."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from emocircuits.matching.settings import MatchSettings

SCORE_COLUMNS = (
    "delta",
    "cosine",
    "auroc",
    "attribution",
    "standardised_delta",
    "encoder_cosine",
    "specificity",
    "nnls",
    "omp",
)
COLUMNS = (
    "emotion",
    "site",
    "feature",
    *SCORE_COLUMNS,
    "density",
    "p_value",
    "q_value",
    "kept",
    "cosine_p_value",
    "residual_share",
    "auroc_drop",
    "off_target_drop",
    "random_drop",
)


def match_table(
    emotions: Sequence[str], sites: Sequence[str], joined: dict[str, Any], how: MatchSettings
) -> pd.DataFrame:
    """Rows with the columns `COLUMNS`, at most `how.per_emotion` for every emotion and site.

    Kept features (Δf > 0 and q <= `how.q_value`) come first, by how much of the direction they write
    (attribution); then the others, by standardised Δf. The last five columns belong to the emotion and site,
    not to the feature.

    Args:
        emotions, sites: names.
        joined: what `match_stories.join_sites` gives.
        how: settings.
    """
    scores, null = joined["scores"], joined["null"]
    candidate = null["eligible"][:, None] & (scores["delta"] > 0)
    kept = candidate & (null["q_value"] <= how.q_value)
    rank = np.where(kept, scores["attribution"], scores["standardised_delta"])
    place = np.lexsort((-rank, ~kept, ~candidate), axis=2)[:, :, : how.per_emotion]
    sites_at, emotions_at, _ = np.indices(place.shape)
    listed = np.take_along_axis(candidate, place, axis=2)
    order = np.lexsort((sites_at[listed], emotions_at[listed]))
    s, e, f = (values[listed][order] for values in (sites_at, emotions_at, place))
    table = {
        "emotion": np.asarray(emotions, dtype=object)[e],
        "site": np.asarray(sites, dtype=object)[s],
        "feature": f,
    }
    table |= {name: scores[name][s, e, f].astype(np.float64) for name in SCORE_COLUMNS}
    table |= {"density": null["density"][s, f].astype(np.float64), "kept": kept[s, e, f]}
    table |= {name: null[name][s, e, f].astype(np.float64) for name in ("p_value", "q_value")}
    table |= {
        name: null[name][s, e].astype(np.float64)
        for name in ("cosine_p_value", "auroc_drop", "off_target_drop", "random_drop")
    }
    table["residual_share"] = joined["residual_share"][s, e].astype(np.float64)
    return pd.DataFrame(table)[list(COLUMNS)]
