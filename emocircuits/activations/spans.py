"""Residual streams of stretches of texts: what an activation store holds when only some tokens of a text
belong to a label.

A store prompt is one labelled set of stretches: its first row is the text's first token (the attention sink,
which readers leave out by position 0 as always), then come the tokens of the stretches. A text with several
labels goes through the model once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emocircuits.activations.residuals import length_batches, row_reader
from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.artifacts.store.writer import ActivationStoreWriter
from emocircuits.errors import UserError
from emocircuits.models.language_model import LanguageModel
from emocircuits.models.spans import encode_with_offsets, tokens_of
from emocircuits.progress import bar


@dataclass(frozen=True)
class SpanText:
    """Stretches of one text under one set of labels.

    Attributes:
        id: unique name.
        text: the whole text, without BOS.
        spans: pairs (first character, one after the last).
        emotion, topic, kind, split: as in `LabelledText`.
        further: more labels, columns of the store's prompt table.
    """

    id: str
    text: str
    spans: tuple[tuple[int, int], ...]
    emotion: str = ""
    topic: str = ""
    kind: str = "story"
    split: str = "train"
    further: Mapping[str, str] = field(default_factory=dict)


def collect_spans(
    model: LanguageModel,
    spans: Sequence[SpanText],
    path: str | Path,
    *,
    batch_tokens: int = 2048,
    dtype: str = "bfloat16",
    metadata: dict[str, Any] | None = None,
    replace: bool = False,
) -> ActivationStore:
    """Writes the activations of all stretches to a store; a killed run resumes at the shard it was in.

    Args:
        model: the model.
        spans: labelled stretches; those of one text should follow each other.
        path: the store's file.
        batch_tokens: tokens (with padding) per forward pass.
        dtype: float32 or bfloat16 in the file.
        metadata: kept in the store next to the model's name and hash.
        replace: delete a store of other texts or another model that lies at `path`.

    Raises:
        UserError: no stretches, a stretch without tokens, or a text longer than the model's context.
    """
    if not spans:
        raise UserError("there are no stretches of text to collect activations of")
    texts = list(dict.fromkeys(stretch.text for stretch in spans))
    ids, chosen = {}, []
    encoded = dict(zip(texts, encode_with_offsets(model, texts), strict=True))
    for stretch in spans:
        tokens, offsets = encoded[stretch.text]
        if len(tokens) > model.n_ctx:
            raise UserError(
                f"the text '{stretch.id}' has {len(tokens)} tokens",
                expected=f"at most the context of {model.n_ctx}",
                cure="shorten it",
            )
        inside = [np.arange(len(tokens))[tokens_of(offsets, *span)] for span in stretch.spans]
        positions = np.unique(np.concatenate(inside)) if inside else np.array([], dtype=np.int64)
        if not len(positions[positions > 0]):
            raise UserError(f"the stretches of '{stretch.id}' hold no token after the first")
        chosen.append(np.concatenate([[0], positions[positions > 0]]))
        ids[stretch.text] = np.asarray(tokens, dtype=np.int64)
    table = pd.DataFrame(
        [
            {
                "id": stretch.id,
                "emotion": stretch.emotion,
                "topic": stretch.topic,
                "kind": stretch.kind,
                "behaviour": "",
                "side": "",
                "split": stretch.split,
                "named": False,
                **stretch.further,
            }
            for stretch in spans
        ]
    )
    tokens = [ids[stretch.text][rows] for stretch, rows in zip(spans, chosen, strict=True)]
    about = {**(metadata or {}), "model_name": model.name, "model_hash": model.content_hash}
    with ActivationStoreWriter(
        path, model.sites, model.d_model, table, tokens, about, dtype, replace=replace
    ) as writer:
        done = writer.done
        with row_reader(model, model.sites, dtype) as read, bar(len(spans), "collect spans") as shown:
            for shard in writer.shards:
                shown.update(len(shard) if done[shard.start] else 0)
                for batch in () if done[shard.start] else _batches(spans, shard, ids, batch_tokens):
                    here = list(dict.fromkeys(spans[number].text for number in batch))
                    rows = read([ids[text] for text in here])
                    starts = dict(
                        zip(
                            here,
                            np.concatenate([[0], np.cumsum([len(ids[text]) for text in here])]),
                            strict=False,
                        )
                    )
                    positions = np.concatenate(
                        [starts[spans[number].text] + chosen[number] for number in batch]
                    )
                    writer.append(np.array(batch), {site: values[positions] for site, values in rows.items()})
                    shown.update(len(batch))
        writer.finish()
    return ActivationStore.open(path)


def _batches(
    spans: Sequence[SpanText], shard: range, ids: Mapping[str, np.ndarray], batch_tokens: int
) -> list[list[int]]:
    """The stretches of a shard, those of one text together, texts of similar length together."""
    by_text: dict[str, list[int]] = {}
    for number in shard:
        by_text.setdefault(spans[number].text, []).append(number)
    texts = list(by_text)
    lengths = np.array([len(ids[text]) for text in texts])
    return [
        [number for row in batch for number in by_text[texts[row]]]
        for batch in length_batches(lengths, batch_tokens)
    ]
