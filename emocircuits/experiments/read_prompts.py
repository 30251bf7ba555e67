"""Readings of many long prompts within a memory budget, one file per prompt, so that a killed call resumes
with the next one.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.errors import UserError
from emocircuits.experiments.readings import long_readings
from emocircuits.io.atomic import write_text
from emocircuits.models.language_model import LanguageModel
from emocircuits.models.memory import chunk_for
from emocircuits.progress import bar
from emocircuits.provenance import sha256_json


def read_prompts(
    model: LanguageModel,
    directions: EmotionDirections,
    prompts: Sequence[tuple[str, str]],
    emotions: Sequence[str],
    folder: Path,
    *,
    memory_gb: float | int = 0,
    site: str | None = None,
) -> list[Path]:
    """Writes `<folder>/<number>.json` with the tokens and readings of every prompt; what is there already is
    not read again.

    Args:
        model: the model.
        directions: its directions.
        prompts: pairs of id and text.
        emotions: which directions.
        folder: where the files go.
        memory_gb: budget in GiB, from which the tokens of a pass follow; 0 for 512 tokens a pass.
        site: where to read; the directions' reading site by default.

    Raises:
        UserError: a prompt that is longer than the context, or a budget that does not even suffice for one
            token at a time.
    """
    if not prompts:
        raise UserError("there are no prompts to read")
    encoded = [model.encode(text) for _, text in prompts]
    for (name, _), ids in zip(prompts, encoded, strict=True):
        if len(ids) > model.n_ctx:
            raise UserError(
                f"the prompt '{name}' has {len(ids)} tokens",
                expected=f"at most the context of {model.n_ctx}",
                cure="shorten it",
            )
    longest = max(map(len, encoded))
    chunk = chunk_for(model, longest, memory_gb) if memory_gb else 512
    paths = []
    # the bar counts tokens, so its time left is that of tokens
    with bar(sum(map(len, encoded)), "read") as shown:
        for number, ((name, text), ids) in enumerate(zip(prompts, encoded, strict=True)):
            path, key = (
                folder / f"{number:05d}.json",
                sha256_json([name, text, model.content_hash, directions.content_hash, list(emotions), site]),
            )
            paths.append(path)
            if _done(path, key):
                shown.update(len(ids))
                continue
            values = long_readings(
                model, directions, ids, emotions, site=site, chunk=chunk, tick=shown.update
            )
            rows = [
                None if np.isnan(row).any() else [round(float(value), 6) for value in row] for row in values
            ]
            write_text(
                path,
                json.dumps(
                    {
                        "id": name,
                        "key": key,
                        "emotions": list(emotions),
                        "site": site or directions.read_site,
                        "tokens": model.token_texts(ids),
                        "readings": rows,
                    },
                    ensure_ascii=False,
                ),
            )
    return paths


def _done(path: Path, key: str) -> bool:
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("key") == key
    except (OSError, ValueError, AttributeError):
        return False
