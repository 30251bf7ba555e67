"""Emotion directions at every site, with their controls in the same file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from emocircuits.artifacts.direction import Direction
from emocircuits.errors import UserError, unknown
from emocircuits.io import hdf5
from emocircuits.provenance import Provenance, sha256_array, sha256_json

if TYPE_CHECKING:
    import emocircuits.artifacts.push

KIND, VERSION = "emotion-directions", 1


@dataclass(frozen=True, eq=False)
class ControlDirections:
    """Directions that carry no emotion: `random`, `covariance`, `content` (topics) or `shuffled` (labels
    permuted by story).

    Attributes:
        names: one name per direction.
        vectors: unit rows, float32.
    """

    names: tuple[str, ...]
    vectors: Float[np.ndarray, "site control d_model"]

    def __post_init__(self) -> None:
        _check_rows(self.vectors, "control directions")
        if self.vectors.shape[1] != len(self.names):
            raise UserError(f"{len(self.names)} names for {self.vectors.shape[1]} control directions")


@dataclass(frozen=True, eq=False)
class EmotionDirections:
    """Unit directions of emotions in the residual stream: a positive projection means more of the emotion.

    Attributes:
        vectors: unit rows, float32.
        norms: length of each vector before it was made a unit vector (residual units).
        mean: mean over the emotions that was subtracted.
        residual_norm: mean norm of the residual stream per site, attention sink masked; the unit of steering
            strength.
        held_out_auroc: one emotion against all others on stories that were not used for the directions.
        estimator, settings: how they were made.
        controls: `random` (isotropic), `covariance` (random with the covariance of stories), `content` and
            `shuffled` directions.
        model_hash: content hash of the model they belong to.
        read_site: default site for reading (about two thirds of depth).
        steer_site: default site for steering (about mid depth).
        quality: further numbers per site and emotion: 95 % intervals `auroc_low`, `auroc_high`, `norm_low`,
            `norm_high`; split-half cosines `reliability`, `reliability_full`; `cosine_low`, the 5 % quantile
            of the cosine with bootstrap replicates.
        site_quality: numbers per site over all emotions: `auroc`, `accuracy`, `top5_accuracy`, each with
            `_low` and `_high`.
    """

    vectors: Float[np.ndarray, "site emotion d_model"]
    norms: Float[np.ndarray, "site emotion"]
    mean: Float[np.ndarray, "site d_model"]
    residual_norm: Float[np.ndarray, "site"]
    held_out_auroc: Float[np.ndarray, "site emotion"]
    sites: tuple[str, ...]
    emotions: tuple[str, ...]
    estimator: str
    settings: dict[str, Any]
    controls: dict[str, ControlDirections]
    model_hash: str
    read_site: str
    steer_site: str
    provenance: Provenance = field(default_factory=Provenance)
    quality: dict[str, Float[np.ndarray, "site emotion"]] = field(default_factory=dict)
    site_quality: dict[str, Float[np.ndarray, "site"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_rows(self.vectors, "emotion directions")
        shape = (len(self.sites), len(self.emotions))
        arrays = {
            "vectors": self.vectors,
            "norms": self.norms,
            "held_out_auroc": self.held_out_auroc,
            **self.quality,
        }
        for name, array in arrays.items():
            if array.shape[:2] != shape:
                raise UserError(f"{name} has shape {array.shape}", expected=f"(site, emotion, …) = {shape}")
        for site in (self.read_site, self.steer_site):
            self.site_index(site)

    def site_index(self, site: str) -> int:
        """Position of a site on the first axis."""
        if site not in self.sites:
            raise unknown("site", site, self.sites)
        return self.sites.index(site)

    def vector(self, emotion: str, site: str) -> Float[np.ndarray, "d_model"]:
        """The unit direction of an emotion at a site."""
        if emotion not in self.emotions:
            raise unknown("emotion", emotion, self.emotions)
        return self.vectors[self.site_index(site), self.emotions.index(emotion)]

    def direction(self, name: str, site: str | None = None) -> Direction:
        """The direction of an emotion, or a control, at a site.

        Args:
            name: an emotion, or the name of a control such as `random 3`.
            site: the steering site by default.

        Raises:
            UserError: an unknown name or site.
        """
        site = site or self.steer_site
        if name in self.emotions:
            return Direction(name, "emotion", site, self.vector(name, site), self.scale(site))
        for control in self.with_controls((), site=site):
            if control.name == name:
                return control
        raise unknown("emotion or control", name, self.emotions)

    def with_controls(
        self, emotions: Sequence[str], *, site: str | None = None, kinds: Sequence[str] | None = None
    ) -> tuple[Direction, ...]:
        """The directions of emotions, and every control after them.

        Args:
            emotions: which.
            site: the steering site by default.
            kinds: only controls of these kinds; all that there are by default.

        Raises:
            UserError: an unknown emotion, site or kind of control.
        """
        site = site or self.steer_site
        row, residual_norm = self.site_index(site), self.scale(site)
        chosen = [
            Direction(emotion, "emotion", site, self.vector(emotion, site), residual_norm)
            for emotion in emotions
        ]
        for kind in self.controls if kinds is None else kinds:
            if kind not in self.controls:
                raise unknown("kind of control", kind, self.controls)
            control = self.controls[kind]
            chosen += [
                Direction(name, kind, site, vector, residual_norm)
                for name, vector in zip(control.names, control.vectors[row], strict=True)
            ]
        return tuple(chosen)

    def push(
        self, name: str, strength: float | int, site: str | None = None
    ) -> "emocircuits.artifacts.push.Push":
        """What steering along an emotion or a control adds: strength × mean residual norm × direction.

        Args:
            name: an emotion, or the name of a control such as `random 3`.
            strength: a fraction of the mean residual norm, at most 2 either way.
            site: the steering site by default.

        Raises:
            UserError: an unknown name or site, or a strength that must be a length.
        """
        return self.direction(name, site).push(strength)

    def differences(self, site: str) -> Float[np.ndarray, "emotion d_model"]:
        """The directions of a site at their own length: the differences of means."""
        place = self.site_index(site)
        return self.vectors[place] * self.norms[place][:, None]

    def setting(self, name: str) -> Any:
        """One of the settings they were learned with.

        Raises:
            UserError: the file does not say it.
        """
        if name not in self.settings:
            raise UserError(
                f"the directions do not say with which {name} they were learned", cure="learn them again"
            )
        return self.settings[name]

    def check_model(self, name: str, content_hash: str, d_model: int) -> None:
        """Makes sure that the directions belong to a model.

        Raises:
            UserError: they were learned on another model, or have another width.
        """
        if self.model_hash and self.model_hash != content_hash:
            raise UserError(
                f"the directions were learned on another model than {name} (hash {self.model_hash[:12]})",
                expected=f"directions of the model with hash {content_hash[:12]}",
                cure="learn directions on this model",
            )
        if self.vectors.shape[2] != d_model:
            raise UserError(
                f"the directions have d_model {self.vectors.shape[2]}",
                expected=f"{d_model}, the width of {name}",
            )

    def scale(self, site: str) -> float:
        """Mean residual norm at a site: strength 1.0 adds a vector of this length."""
        return float(self.residual_norm[self.site_index(site)])

    @property
    def content_hash(self) -> str:
        """Hash of every number and name (not of provenance)."""
        controls = {
            kind: [list(c.names), sha256_array(c.vectors)] for kind, c in sorted(self.controls.items())
        }
        return sha256_json(
            [
                sha256_array(self.vectors),
                sha256_array(self.norms),
                sha256_array(self.residual_norm),
                list(self.sites),
                list(self.emotions),
                self.estimator,
                controls,
            ]
        )

    def table(self) -> pd.DataFrame:
        """One row per site and emotion: norm, held-out AUROC and every further quality."""
        index = pd.MultiIndex.from_product([self.sites, self.emotions], names=["site", "emotion"])
        arrays = {"norm": self.norms, "held_out_auroc": self.held_out_auroc, **self.quality}
        return pd.DataFrame(
            {name: array.reshape(-1).astype(np.float64) for name, array in arrays.items()}, index=index
        ).reset_index()

    def site_table(self) -> pd.DataFrame:
        """One row per site: its quality over all emotions and the residual norm."""
        return pd.DataFrame(
            {"site": list(self.sites), "residual_norm": self.residual_norm, **self.site_quality}
        )

    def save(self, path: str | Path) -> None:
        """Writes `directions.h5` atomically."""
        with hdf5.create(path, KIND, VERSION) as file:
            for name in ("vectors", "norms", "mean", "residual_norm", "held_out_auroc"):
                hdf5.write_array(file, name, getattr(self, name))
            hdf5.write_array(file, "sites", self.sites)
            hdf5.write_array(file, "emotions", self.emotions)
            hdf5.write_value(
                file,
                "about",
                {
                    "estimator": self.estimator,
                    "settings": self.settings,
                    "model_hash": self.model_hash,
                    "read_site": self.read_site,
                    "steer_site": self.steer_site,
                    "provenance": self.provenance.to_dict(),
                },
            )
            for kind, control in self.controls.items():
                group = file.create_group(f"controls/{kind}")
                hdf5.write_array(group, "names", control.names)
                hdf5.write_array(group, "vectors", control.vectors)
            for part, numbers in (("quality", self.quality), ("site_quality", self.site_quality)):
                group = file.create_group(part)
                for name, array in numbers.items():
                    hdf5.write_array(group, name, array)

    @classmethod
    def load(cls, path: str | Path) -> "EmotionDirections":
        """Reads a file written by `save`."""
        with hdf5.open_stamped(path, KIND, VERSION) as file:
            about = hdf5.read_value(file, "about")
            controls = {
                kind: ControlDirections(
                    tuple(hdf5.read_array(group, "names")), hdf5.read_array(group, "vectors")
                )
                for kind, group in file.get("controls", {}).items()
            }
            arrays = {
                name: hdf5.read_array(file, name)
                for name in ("vectors", "norms", "mean", "residual_norm", "held_out_auroc")
            }
            further = {
                part: {name: hdf5.read_array(file[part], name) for name in file.get(part, {})}
                for part in ("quality", "site_quality")
            }
            return cls(
                **arrays,
                **further,
                sites=tuple(hdf5.read_array(file, "sites")),
                emotions=tuple(hdf5.read_array(file, "emotions")),
                estimator=about["estimator"],
                settings=about["settings"],
                controls=controls,
                model_hash=about["model_hash"],
                read_site=about["read_site"],
                steer_site=about["steer_site"],
                provenance=Provenance.from_dict(about["provenance"]),
            )

    def __repr__(self) -> str:
        controls = ", ".join(f"{len(c.names)} {kind}" for kind, c in self.controls.items())
        return (
            f"EmotionDirections({len(self.emotions)} emotions × {len(self.sites)} sites × d_model "
            f"{self.vectors.shape[2]}, {self.estimator}, controls: {controls or 'none'})"
        )


def _check_rows(vectors: np.ndarray, what: str) -> None:
    if vectors.ndim != 3 or not np.isfinite(vectors).all():
        raise UserError(
            f"{what} have shape {vectors.shape} or hold NaN", expected="finite (site, name, d_model)"
        )
    lengths = np.linalg.norm(vectors, axis=2)
    if vectors.size and not np.allclose(lengths, 1, atol=1e-4):
        raise UserError(
            f"{what} have lengths {lengths.min():.4g} to {lengths.max():.4g}", expected="unit rows"
        )
