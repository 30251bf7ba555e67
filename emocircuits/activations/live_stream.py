"""Training batches straight from the model, without a store: for corpora whose activations do not fit a disk.

The same promise as the stream of a store: a batch is a pure function of (seed, step), every epoch visits each
row once, all sites come from one forward pass. Texts are put in a random order per epoch and run through the
model window by window; rows are shuffled inside a window. Held are one window of rows, and 32 bytes per text.
A jump costs one window of forward passes. Rows of extreme norm cannot be left out here: which rows count must
be known before the model has seen them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int

from emocircuits.activations.residuals import length_batches, row_reader
from emocircuits.artifacts.store.seekable_stream import WINDOW, SeekableStream
from emocircuits.errors import UserError, unknown
from emocircuits.models.language_model import LanguageModel
from emocircuits.numerics import generator
from emocircuits.provenance import sha256_array, sha256_json


@dataclass(frozen=True)
class LiveSettings:
    """Which rows of the texts, and how many are held.

    Attributes:
        skip_positions: leading positions of every text that are left out (BOS and sink).
        skip_tokens: token ids that are left out wherever they stand.
        window: rows that are held and shuffled together, up to one text more.
        batch_tokens: tokens (with padding) per forward pass.
        dtype: `bfloat16` gives the rows a bfloat16 store would give, `float32` the model's own.
    """

    skip_positions: int = 1
    skip_tokens: tuple[int, ...] = ()
    window: int = WINDOW
    batch_tokens: int = 2048
    dtype: str = "bfloat16"


class LiveStream(SeekableStream):
    """An endless, seekable stream of shuffled batches of residual rows, computed when asked for.

    Args:
        model: the model.
        tokens: token ids of every text, BOS included (see `encode_texts`); any sequence, e.g. one that reads
            a file.
        sites: `hook_resid_post` sites; one SAE each.
        batch_size: rows per batch; a batch may cross from one epoch into the next.
        seed: seed of the order.
        settings: which rows, and how many are held.

    Raises:
        UserError: no rows, an unknown site or dtype, an empty text, or one longer than the model's context.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokens: Sequence[Int[np.ndarray, "_"]],
        sites: Sequence[str],
        batch_size: int,
        seed: int,
        settings: LiveSettings | None = None,
    ):
        self._settings = settings = settings or LiveSettings()
        for site in sites:
            if site not in model.sites:
                raise unknown("site", site, model.sites)
        if settings.dtype not in ("bfloat16", "float32"):
            raise unknown("dtype", settings.dtype, ("bfloat16", "float32"))
        self._model, self._tokens = model, tokens
        self._skip_tokens = np.array(settings.skip_tokens, dtype=np.int64)
        self._lengths = np.fromiter((len(ids) for ids in tokens), dtype=np.int64)
        for name, wrong in (
            ("no tokens", self._lengths == 0),
            ("too many tokens", self._lengths > model.n_ctx),
        ):
            if wrong.any():
                raise UserError(
                    f"text number {int(np.argmax(wrong))} has {name}",
                    expected=f"1 to {model.n_ctx} tokens",
                    cure="leave it out or cut it",
                )
        self._counts = np.fromiter((int(self._kept(ids).sum()) for ids in tokens), dtype=np.int64)
        self._plan: tuple[int, np.ndarray, np.ndarray, np.ndarray] | None = None
        super().__init__(sites, model.d_model, int(self._counts.sum()), batch_size, seed, settings.window)

    @cached_property
    def origin(self) -> str:
        """Hash of everything the rows come from: model, tokens and what is left out."""
        tokens = [sha256_array(np.asarray(ids, dtype=np.int32)) for ids in self._tokens]
        return sha256_json(
            [
                self._model.content_hash,
                tokens,
                self._settings.skip_positions,
                self._skip_tokens.tolist(),
                self._settings.dtype,
                self.window,
                self._settings.batch_tokens,
            ]
        )

    def _kept(self, ids: np.ndarray) -> np.ndarray:
        return (np.arange(len(ids)) >= self._settings.skip_positions) & ~np.isin(ids, self._skip_tokens)

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The order of the texts, and per window its first text in that order and its first row."""
        if self._plan is None or self._plan[0] != epoch:
            order = generator(self.seed, "texts", epoch).permutation(len(self._lengths))
            starts = np.cumsum(self._counts[order]) - self._counts[order]
            # a text belongs to the window its first row falls in; texts without rows go with their neighbour
            first_texts = np.flatnonzero(np.diff(starts // self.window, prepend=-1))
            self._plan = epoch, order, first_texts, starts[first_texts]
        return self._plan[1:]

    def _window_at(self, epoch: int, offset: int) -> tuple[int, int, int]:
        _, _, starts = self._epoch(epoch)
        number = int(np.searchsorted(starts, offset, side="right")) - 1
        end = int(starts[number + 1]) if number + 1 < len(starts) else self.n_rows
        return number, int(starts[number]), end

    def _load(self, epoch: int, number: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        order, first_texts, _ = self._epoch(epoch)
        last = first_texts[number + 1] if number + 1 < len(first_texts) else len(order)
        texts = order[first_texts[number] : last]
        pieces: dict[str, list[np.ndarray]] = {site: [] for site in self.sites}
        with row_reader(self._model, self.sites, self._settings.dtype) as read:
            for chosen in length_batches(self._lengths[texts], self._settings.batch_tokens):
                batch = [np.asarray(self._tokens[int(text)], dtype=np.int64) for text in texts[chosen]]
                kept = np.concatenate([self._kept(ids) for ids in batch])
                if kept.any():
                    for site, rows in read(batch).items():
                        pieces[site].append(rows[kept])
        held = {site: np.concatenate(rows) for site, rows in pieces.items()}
        return held, generator(self.seed, "window", epoch, number).permutation(len(held[self.sites[0]]))
