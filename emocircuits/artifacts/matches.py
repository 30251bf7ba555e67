"""Which SAE features match which emotions: all scores, the permutation null, and the table of the
best ones.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from emocircuits.errors import UserError, unknown
from emocircuits.io import hdf5
from emocircuits.provenance import Provenance, sha256_array, sha256_json

KIND, VERSION = "feature-matches", 1
REQUIRED_SCORES = ("delta", "auroc", "cosine", "attribution")
COLUMNS = ("emotion", "site", "feature", "delta", "cosine", "auroc", "p_value", "q_value", "kept")


@dataclass(frozen=True, eq=False)
class FeatureMatches:
    """Scores of every SAE feature against every emotion. Positive means more of the emotion.

    Attributes:
        emotions, sites: names of the axes.
        scores: name -> float32 array; `delta` (exact signed difference of mean activation, units of
            feature_acts), `auroc` (0.5 is chance), `cosine` of the decoder row with the direction,
            `attribution` (share of the direction written by the feature, residual units), and further ones.
        null: what the permutations gave: `p_value` and `q_value (site, emotion, feature)`, `max_quantile
            (emotion, level)` and `level`; of decoder cosines with random directions `cosine_max_quantile
            (site, isotropic | covariance | permuted, level)`, `cosine_p_value (site, emotion)` and
            `cosine_false_positives (site, isotropic | covariance)`; what the filter used: `density (site,
            feature)` and `eligible (site, feature)`; and how the emotion's reading falls without its
            carriers: `auroc_drop`, `off_target_drop`, `random_drop (site, emotion)`.
        table: the best features of every emotion with the columns `COLUMNS` (and further ones), best first;
            `kept` says which of them are matches.
        residual_share: share of the squared length of each emotion's mean difference that no feature carries.
        model_hash: content hash of the model whose features these are.
    """

    emotions: tuple[str, ...]
    sites: tuple[str, ...]
    scores: dict[str, Float[np.ndarray, "site emotion feature"]]
    null: dict[str, np.ndarray]
    table: pd.DataFrame
    residual_share: Float[np.ndarray, "site emotion"]
    model_hash: str = ""
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        missing = [name for name in REQUIRED_SCORES if name not in self.scores]
        if missing:
            raise UserError(
                f"feature matches without the score {', '.join(missing)}", expected=", ".join(REQUIRED_SCORES)
            )
        shape = (len(self.sites), len(self.emotions))
        for name, array in {**self.scores, "residual_share": self.residual_share}.items():
            if array.shape[:2] != shape:
                raise UserError(
                    f"the score '{name}' has shape {array.shape}", expected=f"(site, emotion, …) = {shape}"
                )
            if not np.isfinite(array).all():
                raise UserError(
                    f"the score '{name}' holds NaN or infinity",
                    cure="check the SAEs and the activation store",
                )
        absent = [name for name in COLUMNS if name not in self.table]
        if absent:
            raise UserError(
                f"the table of matches has no column {', '.join(absent)}", expected=", ".join(COLUMNS)
            )

    @property
    def content_hash(self) -> str:
        """Hash of every number and name (not of provenance)."""
        return sha256_json(
            [
                list(self.emotions),
                list(self.sites),
                self.table.to_json(orient="split", double_precision=15),
                {name: sha256_array(array) for name, array in sorted({**self.scores, **self.null}.items())},
            ]
        )

    def score(self, name: str, emotion: str, site: str) -> Float[np.ndarray, "feature"]:
        """One score of all features of a site.

        Raises:
            UserError: an unknown score, emotion or site.
        """
        for kind, value, known in (
            ("score", name, self.scores),
            ("emotion", emotion, self.emotions),
            ("site", site, self.sites),
        ):
            if value not in known:
                raise unknown(kind, value, known)
        return self.scores[name][self.sites.index(site), self.emotions.index(emotion)]

    def kept(self, emotion: str, site: str | None = None) -> pd.DataFrame:
        """The matches of an emotion (at one site), best first; empty where none passed.

        Raises:
            UserError: an unknown emotion or site.
        """
        if emotion not in self.emotions:
            raise unknown("emotion", emotion, self.emotions)
        if site is not None and site not in self.sites:
            raise unknown("site", site, self.sites)
        chosen = self.table["kept"].to_numpy(dtype=bool) & (self.table["emotion"] == emotion).to_numpy(
            dtype=bool
        )
        if site is not None:
            chosen &= (self.table["site"] == site).to_numpy(dtype=bool)
        return self.table[chosen].reset_index(drop=True)

    def carriers(self, emotion: str, site: str, share: float = 0.02) -> Int[np.ndarray, "feature"]:
        """The features of a site that write most of an emotion's direction, ascending: at most `share` of the
        dictionary.

        They are the eligible features with the largest attribution Δf · ⟨W_dec, v̂⟩ above 0: those that are
        more active in its stories and write along the direction, and those that are less active and write
        against it.

        Raises:
            UserError: an unknown emotion or site, or a share that is none.
        """
        if not 0 < share <= 1:
            raise UserError(f"a share of {share} of the dictionary", expected="above 0 and at most 1")
        written = self.score("attribution", emotion, site)
        usable = self.null.get("eligible", np.ones((len(self.sites), len(written)), dtype=bool))[
            self.sites.index(site)
        ]
        written = np.where(usable.astype(bool), written, -np.inf)
        best = np.argsort(-written, kind="stable")[: max(1, int(share * len(written)))]
        return np.sort(best[written[best] > 0])

    def save(self, path: str | Path) -> None:
        """Writes `matches.h5` atomically."""
        with hdf5.create(path, KIND, VERSION) as file:
            hdf5.write_array(file, "emotions", self.emotions)
            hdf5.write_array(file, "sites", self.sites)
            hdf5.write_array(file, "residual_share", self.residual_share)
            for name in ("scores", "null"):
                for key, array in getattr(self, name).items():
                    hdf5.write_array(file.require_group(name), key, array)
            for name in self.table.columns:
                hdf5.write_array(file.require_group("table"), name, self.table[name].to_numpy())
            hdf5.write_value(
                file,
                "about",
                {
                    "columns": list(self.table.columns),
                    "model_hash": self.model_hash,
                    "provenance": self.provenance.to_dict(),
                },
            )

    @classmethod
    def load(cls, path: str | Path) -> "FeatureMatches":
        """Reads a file written by `save`."""
        with hdf5.open_stamped(path, KIND, VERSION) as file:
            about = hdf5.read_value(file, "about")
            groups = {
                name: {key: hdf5.read_array(file[name], key) for key in file.get(name, ())}
                for name in ("scores", "null")
            }
            table = pd.DataFrame({name: hdf5.read_array(file["table"], name) for name in about["columns"]})
            return cls(
                emotions=tuple(hdf5.read_array(file, "emotions")),
                sites=tuple(hdf5.read_array(file, "sites")),
                **groups,
                table=table,
                residual_share=hdf5.read_array(file, "residual_share"),
                model_hash=about["model_hash"],
                provenance=Provenance.from_dict(about["provenance"]),
            )

    def __repr__(self) -> str:
        sizes = (
            f"{len(self.emotions)} emotions × {len(self.sites)} sites × "
            f"{self.scores['delta'].shape[2]} features"
        )
        return f"FeatureMatches({sizes}, {int(self.table['kept'].sum())} kept)"
