"""The dial: steer a model by emotion names, `steering(model, "directions.h5", {"calm": 0.05})`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.artifacts.push import Push
from emocircuits.errors import UserError
from emocircuits.interventions.positions import Positions, Schedule
from emocircuits.interventions.steer import steer
from emocircuits.models.language_model import LanguageModel


@contextmanager
def steering(
    model: Any,
    directions: EmotionDirections | str | Path,
    emotion_bias: Mapping[str, float | int],
    *,
    sites: str | Sequence[str] | None = None,
    positions: Positions = None,
    schedule: Schedule | None = None,
    attention_mask: Int[torch.Tensor, "prompt pos"] | None = None,
) -> Iterator[None]:
    """Steers every forward pass inside the context, generation included.

        >>> with emocircuits.steering(model, "runs/organism/directions.h5", {"calm": 0.05}):  # doctest: +SKIP
        ...     logits = model.bridge(tokens)

    Args:
        model: an `emocircuits` model or any TransformerLens object.
        directions: directions of this model, or the path of a directions.h5 (or of the run directory that
            holds one).
        emotion_bias: emotion -> strength, a fraction of the mean residual norm; several add up.
        sites: one or several of the directions' sites; each is pushed by the whole strength. Default: their
            steering site.
        positions, schedule, attention_mask: as for `emocircuits.interventions.steer.steer`.

    Raises:
        UserError: directions of another model or width, an unknown emotion or site, a strength that must be a
            length, or a position outside the prompt.
        Failure: a hook never ran or changed nothing.
    """
    pushes = dial_pushes(model, directions, emotion_bias, sites)
    bridge = model.bridge if isinstance(model, LanguageModel) else model
    with steer(bridge, pushes, positions, schedule=schedule, attention_mask=attention_mask):
        yield


def dial_pushes(
    model: Any,
    directions: EmotionDirections | str | Path,
    emotion_bias: Mapping[str, float | int],
    sites: str | Sequence[str] | None = None,
) -> list[Push]:
    """What the dial adds, one push for each site and emotion.

    Raises:
        UserError: as `steering`.
    """
    learned = as_directions(directions)
    check_fit(model, learned)
    chosen = [sites] if isinstance(sites, str) else list(sites or [learned.steer_site])
    return [
        learned.push(emotion, strength, site) for site in chosen for emotion, strength in emotion_bias.items()
    ]


def as_directions(source: EmotionDirections | str | Path) -> EmotionDirections:
    """Directions as they are, from a file, or from a run directory."""
    if isinstance(source, EmotionDirections):
        return source
    path = Path(source)
    return EmotionDirections.load(path / "directions.h5" if path.is_dir() else path)


def check_fit(model: Any, directions: EmotionDirections) -> None:
    """Makes sure that directions belong to a model.

    Raises:
        UserError: another model's directions, another width, or a steering site that the model does not have.
    """
    cure = "learn directions on this model: emocircuits run --model MODEL"
    width = int((model.bridge if isinstance(model, LanguageModel) else model).cfg.d_model)
    if directions.vectors.shape[2] != width:
        raise UserError(
            f"the directions have d_model {directions.vectors.shape[2]}",
            expected=f"the model's {width}",
            cure=cure,
        )
    if not isinstance(model, LanguageModel):
        return
    if directions.model_hash and directions.model_hash != model.content_hash:
        raise UserError(
            f"the directions belong to another model than {model.name} (hash {directions.model_hash[:12]})",
            expected=f"directions of the model {model.content_hash[:12]}",
            cure=cure,
        )
    strange = [site for site in directions.sites if site not in model.sites]
    if strange:
        raise UserError(
            f"the directions were read at {strange[0]}",
            expected=f"a site of {model.name}: {', '.join(model.sites)}",
        )
