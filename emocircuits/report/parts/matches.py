"""The matches of features with emotions: those of the run's two emotions, then all."""

import pandas as pd

from emocircuits.artifacts.feature_page import feature_page
from emocircuits.io.documents import read_json
from emocircuits.report.pictures import Pictures
from emocircuits.report.run_data import RunData
from emocircuits.report.tables import Cell, frame, long_details, named
from emocircuits.report.text import esc, number

TITLE = "Feature matches"
HEADS = {
    "emotion": "emotion",
    "site": "site",
    "feature": "feature",
    "delta": "Δf",
    "cosine": "cosine",
    "auroc": "AUROC",
    "p_value": "p",
    "q_value": "q",
    "kept": "kept",
}


def build(run: RunData, pictures: Pictures) -> str:
    """How many there are, the two emotions' own, the null, and all of them."""
    matches = _linked(run)
    own = matches[matches.emotion.isin([run.emotion, run.opposite])].sort_values(
        ["emotion", "p_value"], ascending=[run.emotion < run.opposite, True], kind="stable"
    )
    kept = matches[matches.kept.astype(bool)] if len(matches) else matches
    first, second = (int((kept.emotion == name).sum()) for name in (run.emotion, run.opposite))
    return (
        f"<p>Listed are the {len(matches)} best features over all emotions; {len(kept)} of them are kept as "
        f"matches, significant after correction for all tests. Of <em>{esc(run.emotion)}</em>: {first}; of "
        f"<em>{esc(run.opposite)}</em>: {second}.</p>"
        + frame(own, named(own, HEADS), tall=True, caption=f"{run.emotion} and {run.opposite}")
        + pictures.get("match_null")
        + long_details(f"All {len(matches)} matches", frame(matches, tall=True), "matches.csv")
    )


def _linked(run: RunData) -> pd.DataFrame:
    """The matches; features whose SAE is known on Neuronpedia are links to their pages."""
    pages = {
        path.parent.name: (read_json(path).get("metadata") or {}).get("neuronpedia_id")
        for path in run.directory.glob("saes/*/cfg.json")
    }
    matches = run.matches
    if not any(feature_page(name, 0) for name in pages.values()):
        return matches
    pairs = zip(matches.site, matches.feature, strict=True)
    return matches.assign(
        feature=[_feature(feature_page(pages.get(site), feature), feature) for site, feature in pairs]
    )


def _feature(page: str, feature: int) -> Cell | int:
    if not page:
        return feature
    return Cell(f'<a href="{esc(page)}" rel="noopener noreferrer">{number(feature)}</a>', float(feature))
