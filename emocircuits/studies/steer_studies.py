"""Steering outside a run: with any directions file on any model it belongs to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.behaviours import BEHAVIOURS
from emocircuits.behaviours.bind import bind
from emocircuits.errors import UserError, unknown
from emocircuits.experiments.steering import DoseSettings, dose_response
from emocircuits.interventions.dial import as_directions, check_fit, steering
from emocircuits.interventions.generate import sample
from emocircuits.interventions.liveness import check_live
from emocircuits.interventions.positions import Positions, Schedule
from emocircuits.models import LanguageModel
from emocircuits.models.loading import AS_IT_IS, Loading
from emocircuits.passes.task import Task
from emocircuits.runs.opening import open_run
from emocircuits.runs.run import MANIFEST, Run


def open_pair(
    directions: Path, model: str | None = None, *, loading: Loading = AS_IT_IS
) -> tuple[LanguageModel, EmotionDirections]:
    """A model and its directions, which must belong together.

    Args:
        directions: a run directory, or a directions.h5.
        model: `organism`, a directory, or a Hugging Face id; the model of the run by default.
        loading: how the model is loaded.

    Raises:
        UserError: no such model or file, or directions of another model, width or site.
    """
    learned = as_directions(directions)
    if model is not None:
        loaded = loading.load(model)
    else:
        loaded = _run_of(directions, loading).load_model()
    check_fit(loaded, learned)
    return loaded, learned


def _run_of(directions: Path, loading: Loading) -> Run:
    folder = directions if directions.is_dir() else directions.parent
    if not (folder / MANIFEST).is_file():
        raise UserError(f"{directions} belongs to no run", cure="say whose directions they are with --model")
    return open_run(folder, loading)


def steer_text(
    model: LanguageModel,
    directions: EmotionDirections,
    emotion: str,
    strengths: Sequence[float],
    prompt: str,
    *,
    n_tokens: int = 40,
    sites: Sequence[str] | None = None,
    positions: Positions = None,
    schedule: Schedule | None = None,
    temperature: float = 1.0,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """How the model resumes from a prompt, unsteered and at every strength, with the same random numbers.

    Args:
        model, directions: a model and its directions.
        emotion: which.
        strengths: fractions of the mean residual norm.
        prompt: a text.
        n_tokens: tokens to write.
        sites, positions, schedule: as for `emocircuits.steering`.
        temperature: 0 takes the most likely token.
        seed: seed of the sampling.

    Returns:
        Rows `strength, text, logit_change`: the largest change of a logit of the prompt's own forward pass (0
            where only generated tokens are steered).

    Raises:
        UserError: an empty prompt, one too long for the model, or what `emocircuits.steering` refuses.
        Failure: steering changed nothing, or left something behind.
    """
    tokens = torch.tensor([model.encode(prompt)], device=model.bridge.cfg.device)
    if not prompt.strip():
        raise UserError("an empty prompt", expected="text")
    model.check_length(tokens[0].tolist(), n_tokens)
    if positions == "generated" and n_tokens < 2:
        raise UserError(
            "one token to write under a push on generated tokens",
            expected="at least 2: the first new token is drawn from what the prompt's last token gives, "
            "before anything generated is pushed",
            cure="raise --tokens, or push at all positions",
        )
    rows = []
    for strength in dict.fromkeys((0.0, *strengths)):
        options = dict(sites=sites, positions=positions, schedule=schedule)

        def pushed(strength: float = strength, options: dict = options):
            return steering(model, directions, {emotion: strength}, **options)

        change = 0.0
        if strength and positions != "generated":
            change = check_live(model.bridge, tokens, pushed, f"steering {emotion}")
        with pushed():
            written = sample(model.bridge, tokens, n_tokens, seed=seed, temperature=temperature)
        text = model.answer(written[0].tolist())
        rows.append({"strength": strength, "text": text, "logit_change": change})
    return rows


def steer_curve(
    model: LanguageModel,
    directions: EmotionDirections,
    emotions: Sequence[str],
    behaviours: Sequence[str],
    *,
    sites: Sequence[str] | None = None,
    strengths: Sequence[float] = (-0.5, -0.25, 0.0, 0.25, 0.5),
    prompts: int = 24,
    samples: int = 10,
    split: str = "score",
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Dose–response of emotions next to every control of the directions file, at one or several sites one by
    one.

    Args:
        model, directions: a model and its directions.
        emotions, behaviours: names.
        sites: which sites; the steering site by default.
        strengths: for emotions; controls are measured at the two ends.
        prompts: prompts per behaviour.
        samples: actions sampled per prompt, direction and strength.
        split: prompts to "find" something (a site, a strength) or to "score" it.
        seed: seed of intervals and samples.

    Returns:
        The dose–response table of all sites, and one row per site, behaviour and emotion: slope of the
        log-odds, the largest
        |slope| of each kind of control, and p.

    Raises:
        UserError: an unknown emotion, behaviour or site, or strengths that are lengths.
    """
    chosen = list(sites or [directions.steer_site])
    for site in chosen:
        directions.site_index(site)
    asked = [_task(model, name, prompts, split) for name in behaviours]
    tables, lines = [], []
    for site in chosen:
        found = dose_response(
            model,
            asked,
            directions.with_controls(emotions, site=site),
            DoseSettings(
                strengths=tuple(strengths),
                control_strengths=(min(strengths), max(strengths)),
                samples=samples,
                seed=seed,
            ),
        )
        tables.append(found.table.assign(site=site))
        slopes = found.slopes[found.slopes["metric"] == "logit_diff"]
        for behaviour in behaviours:
            here = slopes[slopes["behaviour"] == behaviour]
            beside = {
                f"largest_{kind}": float(rows["slope"].abs().max())
                for kind, rows in here.groupby("kind")
                if kind != "emotion"
            }
            for row in here[here["kind"] == "emotion"].itertuples():
                lines.append(
                    {
                        "site": site,
                        "behaviour": behaviour,
                        "emotion": row.direction,
                        "slope": row.slope,
                        "ci_low": row.ci_low,
                        "ci_high": row.ci_high,
                        **beside,
                        "p_value": row.p_value,
                    }
                )
    return pd.concat(tables, ignore_index=True), pd.DataFrame(lines)


def steer_check(
    model: LanguageModel, directions: EmotionDirections, emotion: str, strength: float = 0.1
) -> list[dict[str, Any]]:
    """At every site of the directions: do logits change under steering, and return exactly after it?

    Raises:
        Failure: they do not.
    """
    tokens = torch.tensor(
        [model.encode("The tests failed again, and there was one thing left to do.")],
        device=model.bridge.cfg.device,
    )
    rows = []
    for site in directions.sites:
        change = check_live(
            model.bridge,
            tokens,
            lambda site=site: steering(model, directions, {emotion: strength}, sites=site),
            f"steering at {site}",
        )
        rows.append(
            {"site": site, "residual_norm": directions.scale(site), "logit_change": change, "restored": True}
        )
    return rows


def _task(model: LanguageModel, name: str, count: int, split: str) -> Task:
    """The task on prompts without pressure."""
    if split not in ("find", "score"):
        raise unknown("split", split, ("find", "score"))
    return bind(BEHAVIOURS.get(name), model).neutral_task(split, limit=count)
