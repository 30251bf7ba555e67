"""m(C) of a feature circuit, for real: features and errors outside C take their baseline at every site, those
inside stay live.

    x'  =  decode(m f + (1 - m) f_base) + (e if the error is kept, else e_base)    at every site in turn

`interventions.ablate` says the same as hooks of one pass; here many circuits share their work. The blocks
before the first site run once. From site to site only one pass is run for all circuits that agree so far, so
leaving out one node after the other costs only the blocks behind each. Where a metric reads the last position
alone, nothing behind the last block is computed elsewhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from emocircuits.graphs.linearise import run_pair
from emocircuits.interventions.ablate import ABLATIONS, AblationCard, Baseline, Keep, ablate
from emocircuits.names import blocks_before, is_stream, residual_site
from emocircuits.passes.last_position import reads_last_position, run_metric
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch, chunks, measure
from emocircuits.passes.resume import resume
from emocircuits.progress import bar
from emocircuits.ranks import gather_rows, ranks
from emocircuits.sae.dictionary import Dictionary

STREAM_BYTES = 1 << 28  # of all circuits that are run side by side
KEPT_BYTES = 1 << 29  # of the two runs' streams, kept from one call to the next
Masks = Mapping[str, tuple[Bool[Tensor, "circuit d_sae"], Bool[Tensor, "circuit"]]]
"""site -> which features and whether the error is kept, per circuit."""


@dataclass(frozen=True, eq=False)
class Streams:
    """What one batch's circuits start from: the clean stream at the first site, the corrupt streams at all
    sites.
    """

    chunk: PairBatch
    start: Float[Tensor, "prompt pos d_model"]
    corrupt: Mapping[str, Float[Tensor, "prompt pos d_model"]]


@dataclass(frozen=True, eq=False)
class FeatureRuns:
    """Runs circuits of features and errors on some prompts.

    Attributes:
        model: any TransformerLens object.
        dictionaries: site -> dictionary, in the order of the layers.
        batches: prompt pairs, grouped by length.
        of: metric, logits -> one value per prompt.
        max_tokens: tokens per pass.
        mean_over: prompts over whose corrupt sides `mean` averages; by default `batches`.
    """

    model: Any
    dictionaries: Mapping[str, Dictionary]
    batches: Sequence[PairBatch]
    of: Metric
    max_tokens: int = DEFAULT_MAX_TOKENS
    mean_over: Sequence[PairBatch] | None = None

    @torch.no_grad()
    def metric(self, masks: Masks, ablation: str = "resample") -> Float[np.ndarray, "circuit prompt"]:
        """The metric under each circuit, prompts in the order of their index; ranks of a job take turns over
        the batches.

        Args:
            masks: what each circuit keeps.
            ablation: `resample`, `mean` or `zero`.
        """
        card = ABLATIONS.get(ablation)
        n_circuits = len(next(iter(masks.values()))[1])
        index, done, ranked = [], [], _alike_together(masks)
        with bar(n_circuits * sum(map(len, ranks().mine(self._chunks))), "circuits") as shown:
            for streams in self._own_streams():
                part = []
                block = max(1, STREAM_BYTES // (streams.start.numel() * streams.start.element_size()))
                for first in range(0, n_circuits, block):
                    now = ranked[first : first + block]
                    kept = {site: (features[now], error[now]) for site, (features, error) in masks.items()}
                    part.append(self._block(streams, kept, card))
                    shown.update(part[-1].numel())
                done.append(torch.cat(part)[ranked.argsort()].T.numpy(force=True))
                index.append(streams.chunk.index.numpy(force=True))
        rows, order = (gather_rows(np.concatenate(own) if own else None) for own in (done, index))
        return np.ascontiguousarray(rows[np.argsort(order, kind="stable")].T)

    @cached_property
    def _kept(self) -> list[Streams] | None:
        """All streams, where they fit."""
        size = (
            4
            * sum(batch.clean.numel() for batch in self.batches)
            * self.model.cfg.d_model
            * (len(self.dictionaries) + 1)
        )
        return list(self._computed(self._chunks)) if size <= KEPT_BYTES else None

    @cached_property
    def _chunks(self) -> list[PairBatch]:
        return list(chunks(self.batches, self.max_tokens))

    def _streams(self) -> Iterator[Streams]:
        return iter(self._kept) if self._kept is not None else self._computed(self._chunks)

    def _own_streams(self) -> Iterator[Streams]:
        """This rank's."""
        return (
            iter(ranks().mine(self._kept))
            if self._kept is not None
            else self._computed(ranks().mine(self._chunks))
        )

    @torch.no_grad()
    def _computed(self, some: Sequence[PairBatch]) -> Iterator[Streams]:
        first = next(iter(self.dictionaries))
        for chunk in some:
            run = run_pair(self.model, self.dictionaries, chunk, self.of, gradient=False)
            yield Streams(chunk, run.sites[first].clean, {site: at.corrupt for site, at in run.sites.items()})

    @cached_property
    def _means(self) -> dict[str, Baseline]:
        sums: dict[str, list] = {site: [0.0, 0.0] for site in self.dictionaries}
        over = self if self.mean_over is None else replace(self, batches=self.mean_over, mean_over=None)
        for streams in over._streams():
            for site, total in sums.items():
                values = _values(self.dictionaries[site], streams.corrupt[site])
                total[0] = total[0] + values.features.sum((0, 1), keepdim=True)
                total[1] = total[1] + values.error.sum((0, 1), keepdim=True)
        count = sum(batch.corrupt.numel() for batch in over.batches)
        return {site: Baseline(features / count, error / count) for site, (features, error) in sums.items()}

    @cached_property
    def _last_only(self) -> bool:
        return all(
            reads_last_position(self.model, self.of, batch.clean.shape[1], batch.index)
            for batch in self.batches
        )

    @property
    def _final_site(self) -> str:
        return residual_site(self.model.cfg.n_layers - 1)

    def _base(self, streams: Streams, site: str, card: AblationCard, last: bool = False) -> Baseline:
        corrupt = streams.corrupt[site][:, -1:] if last else streams.corrupt[site]
        return card.values(
            _values(self.dictionaries[site], corrupt), self._means[site] if card.needs_mean else None
        )

    def _block(self, streams: Streams, masks: Masks, card: AblationCard) -> Float[Tensor, "circuit prompt"]:
        """A block of circuits on one batch."""
        if not all(map(is_stream, self.dictionaries)):
            return self._in_one_pass(streams, masks, card)
        which = torch.zeros(len(next(iter(masks.values()))[1]), dtype=torch.long)
        x, at, final = streams.start[None], next(iter(self.dictionaries)), self._final_site
        for site, dictionary in self.dictionaries.items():
            x, at = self._onward(streams.chunk, x, at, site), site
            last = self._last_only and site == final
            base = self._base(streams, site, card, last)
            x, which = _edited(dictionary, x[:, :, -1:] if last else x, base, masks[site], which)
        x = self._onward(streams.chunk, x, at, final)
        return self._measured(streams.chunk, x[:, :, -1:] if self._last_only else x)[which]

    def _onward(
        self, chunk: PairBatch, streams: Tensor, start: str, stop: str
    ) -> Float[Tensor, "group prompt pos d_model"]:
        """The streams at a later site."""
        if blocks_before(start) == blocks_before(stop):
            return streams
        flat, parts, rows = streams.flatten(0, 1), [], max(1, self.max_tokens // streams.shape[2])
        for first in range(0, len(flat), rows):
            now = flat[first : first + rows]
            parts.append(resume(self.model, _tokens(chunk, now), start, now, until=stop))
        return torch.cat(parts).view_as(streams)

    def _measured(self, chunk: PairBatch, streams: Tensor) -> Float[Tensor, "group prompt"]:
        flat, values, index = streams.flatten(0, 1), [], chunk.index.repeat(len(streams))
        # whole batches, as the metric knows them
        rows = len(chunk) * max(1, self.max_tokens // (len(chunk) * streams.shape[2]))
        for first in range(0, len(flat), rows):
            now = slice(first, first + rows)
            logits = resume(self.model, _tokens(chunk, flat[now]), self._final_site, flat[now])
            values.append(measure(self.of, logits, index[now]))
        return torch.cat(values).view(len(streams), -1)

    def _in_one_pass(
        self, streams: Streams, masks: Masks, card: AblationCard
    ) -> Float[Tensor, "circuit prompt"]:
        """For sites that are not the whole stream: hooks of passes from the start."""
        chunk, found = streams.chunk, []
        base = {site: self._base(streams, site, card) for site in self.dictionaries}
        n_circuits, block = len(next(iter(masks.values()))[1]), max(1, self.max_tokens // chunk.clean.numel())
        for start in range(0, n_circuits, block):
            count = min(block, n_circuits - start)
            keep = {
                site: Keep(*(mask[start : start + count].repeat_interleave(len(chunk), 0) for mask in both))
                for site, both in masks.items()
            }
            tiled = {
                site: Baseline(
                    *(
                        value if len(value) == 1 else value.repeat(count, 1, 1)
                        for value in (one.features, one.error)
                    )
                )
                for site, one in base.items()
            }
            with ablate(self.model, self.dictionaries, keep, tiled):
                values = run_metric(
                    self.model, chunk.clean.repeat(count, 1), self.of, chunk.index.repeat(count)
                )
            found.append(values.view(count, -1))
        return torch.cat(found)


def _edited(
    dictionary: Dictionary,
    streams: Float[Tensor, "group prompt pos d_model"],
    base: Baseline,
    kept: tuple[Tensor, Tensor],
    which: Tensor,
) -> tuple[Float[Tensor, "split prompt pos d_model"], Tensor]:
    """The streams behind a site, one per group of circuits that agreed before and agree here, and each
    circuit's group.
    """
    features, error = kept
    keys = torch.cat([which.to(features.device)[:, None], features.long(), error.long()[:, None]], dim=1)
    groups, after = keys.unique(dim=0, return_inverse=True)
    out = streams.new_empty(len(groups), *streams.shape[1:])
    floor = dictionary.decode(base.features)
    parents = groups[:, 0].tolist()
    for parent in dict.fromkeys(parents):
        x = streams[parent].to(floor.dtype)
        found = dictionary.encode(x)
        moved, live_error = found - base.features, None
        for place in [place for place, one in enumerate(parents) if one == parent]:
            keep, with_error = groups[place, 1:-1].bool(), bool(groups[place, -1])
            if with_error and 2 * int(keep.sum()) > len(keep):  # few are missing
                out[place] = x - moved[..., ~keep] @ dictionary.decoder[~keep]
                continue
            if with_error and live_error is None:
                live_error = x - dictionary.decode(found)
            out[place] = (
                floor
                + (live_error if with_error else base.error)
                + moved[..., keep] @ dictionary.decoder[keep]
            )
    return out, after.cpu()


def _values(dictionary: Dictionary, stream: Float[Tensor, "prompt pos d_model"]) -> Baseline:
    features = dictionary.encode(stream)
    return Baseline(features, stream.to(features.dtype) - dictionary.decode(features))


def _tokens(chunk: PairBatch, streams: Tensor) -> Tensor:
    """Tokens of the right shape; which they are makes no difference behind the embeddings."""
    return chunk.clean[:1, : streams.shape[1]].expand(len(streams), -1)


def _alike_together(masks: Masks) -> Tensor:
    """The circuits in an order in which those that agree at the first sites stand together."""
    keys = torch.cat(
        [torch.cat([features, error[:, None]], dim=1) for features, error in masks.values()], dim=1
    )
    packed = np.packbits(keys.cpu().numpy(), axis=1)
    return torch.from_numpy(np.lexsort(packed.T[::-1]))
