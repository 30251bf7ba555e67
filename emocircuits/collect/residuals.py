"""Residual streams of labelled texts at every block, in one forward pass per batch.

Texts of similar length go through the model together, padded on the right: in a causal model nothing that comes later
reaches an earlier position, so a text's rows do not depend on its batch (tested: one at a time and eight at a time agree).
Every position is stored, with its number. Position 0 is an attention sink with a norm of its own: readers of the store
leave it out with `positions > 0`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.artifacts.activation_store import ActivationStore
from emocircuits.artifacts.activation_writer import ActivationStoreWriter
from emocircuits.collect.prompts import LabelledText, prompt_table
from emocircuits.errors import UserError, unknown
from emocircuits.models.language_model import LanguageModel
from emocircuits.progress import bar
from emocircuits.sites import layer_of


def collect_residuals(
    model: LanguageModel,
    texts: Sequence[LabelledText],
    path: str | Path,
    *,
    sites: Sequence[str] | None = None,
    batch_tokens: int = 2048,
    dtype: str = "bfloat16",
    metadata: dict[str, Any] | None = None,
) -> ActivationStore:
    """Writes the activations of all texts to a store; a killed run goes on where it stopped.

    Args:
        model: the model.
        texts: texts with labels.
        path: the store's file.
        sites: `hook_resid_post` sites; all blocks by default.
        batch_tokens: tokens (with padding) per forward pass.
        dtype: float32 or bfloat16 in the file.
        metadata: kept in the store beside the model's name and hash.

    Raises:
        UserError: an unknown site, a text that is empty or longer than the model's context, an id that occurs twice.
    """
    sites = tuple(model.sites if sites is None else sites)
    for site in sites:
        if site not in model.sites:
            raise unknown("site", site, model.sites)
    table = prompt_table(texts)
    tokens = encode_texts(model, texts)
    about = {**(metadata or {}), "model_name": model.name, "model_hash": model.content_hash}
    with ActivationStoreWriter(path, sites, model.d_model, table, tokens, about, dtype) as writer:
        lengths = np.array([len(ids) for ids in tokens])
        done = np.asarray(writer.done)
        with bar(int(lengths.sum()), "collect") as shown:
            # batches are those of the whole list, also when a run goes on: rounding depends on the shape of a batch
            for chosen in length_batches(lengths, batch_tokens):
                shown.update(int(lengths[chosen].sum()))
                if done[chosen].all():
                    continue
                residuals = batch_residuals(model, [tokens[index] for index in chosen], sites)
                kept = {site: np.concatenate([rows[place, : lengths[index]] for place, index in enumerate(chosen)])
                        for site, rows in residuals.items()}
                writer.append(chosen, kept)
        writer.finish()
    return ActivationStore.open(path)


def encode_texts(model: LanguageModel, texts: Sequence[LabelledText]) -> list[Int[np.ndarray, "pos"]]:
    """Token ids of every text.

    Raises:
        UserError: a text without tokens or longer than the context; the message names it.
    """
    encoded = []
    for text in texts:
        ids = np.asarray(model.encode(text.text), dtype=np.int64)
        if len(ids) <= int(model.bos_id is not None):
            raise UserError(f"the text '{text.id}' is empty")
        if len(ids) > model.n_ctx:
            raise UserError(f"the text '{text.id}' has {len(ids)} tokens", expected=f"at most the context of {model.n_ctx}",
                            cure="shorten it")
        encoded.append(ids)
    return encoded


def length_batches(lengths: Int[np.ndarray, "prompt"], batch_tokens: int) -> Iterator[Int[np.ndarray, "_"]]:
    """Batches of texts of similar length, longest first; each holds at most `batch_tokens` with padding (or one text)."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // int(lengths[order[start]]))
        yield order[start:start + size]
        start += size


@torch.no_grad()
def batch_residuals(
    model: LanguageModel, tokens: Sequence[Int[np.ndarray, "_"]], sites: Sequence[str]
) -> dict[str, Float[np.ndarray, "prompt pos d_model"]]:
    """Residual streams of several texts, padded on the right (rows behind a text's end mean nothing)."""
    longest = max(len(ids) for ids in tokens)
    padded = np.zeros((len(tokens), longest), dtype=np.int64)
    for row, ids in enumerate(tokens):
        padded[row, : len(ids)] = ids
    seen: dict[str, np.ndarray] = {}

    def keep(site: str):
        def hook(value: Tensor, hook: object) -> None:
            seen[site] = value.detach().float().cpu().numpy()

        return hook

    last = max(layer_of(site) for site in sites) + 1
    limits = {"stop_at_layer": last} if last < model.n_layers else {"logits_to_keep": 1}
    with model.bridge.hooks(fwd_hooks=[(site, keep(site)) for site in sites]):
        model.bridge(torch.from_numpy(padded).to(model.bridge.cfg.device), use_cache=False, **limits)
    return seen
