"""SAEs straight from a model and a file of texts, for corpora whose activations do not fit a disk."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from emocircuits.errors import UserError, unknown
from emocircuits.io.lines import lines_of
from emocircuits.models.loading import AS_IT_IS, Loading
from emocircuits.runs.recipe import load_recipe


def train_on_texts(
    model_name: str,
    texts: Path,
    out: Path,
    *,
    sites: Sequence[str] = (),
    recipe: str | None = None,
    overrides: tuple[str, ...] = (),
    loading: Loading = AS_IT_IS,
) -> dict[str, Path]:
    """Trains SAEs in lockstep, one forward pass for all sites; the same call resumes after an interruption.

    Args:
        model_name: `organism`, a directory, or a Hugging Face id.
        texts: one text a line, or JSON lines with the key `text`; longer ones are cut at the model's context.
        out: directory of the pairs.
        sites: which sites; all by default.
        recipe: whose `[sae]` table to use.
        overrides: `key=value` texts.
        loading: how the model is loaded.

    Returns:
        site -> directory of its pair.

    Raises:
        UserError: no such file or no text in it, an unknown site, or settings that do not fit.
    """
    chosen = load_recipe(recipe, overrides)
    settings = chosen.sae
    lines = read_lines(texts)

    from emocircuits.activations.live_stream import LiveSettings, LiveStream
    from emocircuits.sae import train_from_stream
    from emocircuits.threads import use_threads

    use_threads(chosen.threads)
    model = replace(loading, device=loading.device or chosen.device).load(model_name)
    for site in sites:
        if site not in model.sites:
            raise unknown("site", site, model.sites)
    tokens = [np.array(ids[: model.n_ctx]) for ids in model.encode_batch(lines)]
    stream = LiveStream(
        model,
        tokens,
        tuple(sites) or model.sites,
        settings.batch_size,
        chosen.seed,
        LiveSettings(skip_positions=settings.skip_positions),
    )
    about = {"model_name": model.name, "model_hash": model.content_hash, "stream_hash": stream.origin}
    return train_from_stream(
        stream,
        settings,
        out,
        origin=stream.origin,
        about=about,
        device=chosen.device,
    )


def read_lines(path: Path) -> list[str]:
    """The texts of a file that are not empty.

    Raises:
        UserError: no such file, not UTF-8, a line that is no JSON object with a text, or nothing but empty
            lines.
    """
    try:
        lines = [line for line in lines_of(path.read_text(encoding="utf-8")) if line.strip()]
    except FileNotFoundError:
        raise UserError(
            f"there is no file {path}", expected="texts, one a line, or JSON lines with the key 'text'"
        ) from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise UserError(f"{path} is no text file ({error})", expected="UTF-8 text") from error
    if path.suffix == ".jsonl":
        for number, line in enumerate(lines, 1):
            try:
                lines[number - 1] = json.loads(line)["text"]
            except (json.JSONDecodeError, KeyError, TypeError):
                raise UserError(
                    f"line {number} of {path} is {line[:60]!r}", expected='{"text": "…"}'
                ) from None
    if not lines:
        raise UserError(f"{path} has no text", expected="at least one line")
    return lines
