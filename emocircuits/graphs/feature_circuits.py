"""m(C) of a feature circuit, for real: features and errors outside C take their baseline at every site, those
inside stay live.

    x'  =  decode(m f + (1 - m) f_base) + (e if the error is kept, else e_base)     at every site in turn

`interventions.ablate.keep_only` says the same as hooks of one pass; here many circuits share their work. The
blocks before the first site run once. From site to site only one pass is run for all circuits that agree so
far, so leaving out one node after the other costs only the blocks after each. Where a metric reads the last
position alone, nothing after the last block is computed elsewhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from emocircuits.graphs.feature_sides import feature_sides
from emocircuits.graphs.graph import Choices
from emocircuits.interventions.ablate import ABLATIONS, Ablation, Keep, NodeValues, keep_only
from emocircuits.names import blocks_before, is_stream, parse_node, residual_site
from emocircuits.passes.from_site import FromSite
from emocircuits.passes.gathered import as_array
from emocircuits.passes.metric import measure, run_metric
from emocircuits.passes.prompt_pairs import PairBatch, PromptPairs
from emocircuits.passes.resume import resume
from emocircuits.passes.task import Task
from emocircuits.progress import bar
from emocircuits.ranks import gather_rows, ranks
from emocircuits.sae.dictionary import Dictionary

STREAM_BYTES = 1 << 28  # of all circuits that are run side by side
KEPT_BYTES = 1 << 29  # of the two runs' streams, kept from one call to the next
Masks = Mapping[str, tuple[Bool[Tensor, "circuit d_sae"], Bool[Tensor, "circuit"]]]
"""site -> which features and whether the error is kept, per circuit."""


@dataclass(frozen=True, eq=False)
class Streams:
    """What one batch's circuits start from: the clean stream at the first site, the corrupt streams at
    all sites, and how to get from site to site.
    """

    batch: PairBatch
    start: Float[Tensor, "prompt pos d_model"]
    corrupt: Mapping[str, Float[Tensor, "prompt pos d_model"]]
    from_site: FromSite

    def under(self, card: Ablation) -> "Streams":
        """The same without the positions that both sides share, where an ablation changes nothing there."""
        prefix = self.from_site.prefix
        if prefix is None or not card.takes_other:
            return replace(self, from_site=self.from_site.without_prefix())
        cut = slice(prefix.length, None)
        corrupt = {site: stream[:, cut] for site, stream in self.corrupt.items()}
        return replace(self, start=self.start[:, cut], corrupt=corrupt)


@dataclass(frozen=True, eq=False)
class FeatureCircuits:
    """Runs circuits of features and errors on the prompts of a task; see `CircuitRunner`.

    Attributes:
        task: the model, its SAEs (everything at these sites outside a circuit is ablated), the prompts and
            the metric.
        items: ids of the nodes that choices are made among, over all positions.
        mean_over: prompts over whose corrupt sides means are taken; by default the task's.
    """

    task: Task
    items: Sequence[str]
    mean_over: PromptPairs | None = None

    def run(
        self,
        choices: Choices,
        rest: Bool[np.ndarray, "circuit"] | None = None,
        *,
        ablation: str = "resample",
        errors: str = "chosen",
    ) -> Float[np.ndarray, "circuit prompt"]:
        """See `CircuitRunner`; ranks of a job take turns over the batches."""
        rest = np.zeros(len(choices), dtype=bool) if rest is None else rest
        masks = {}
        for site, dictionary in self.task.dictionaries.items():
            kept = np.repeat(rest[:, None], dictionary.d_sae + 1, axis=1)
            here, columns = self._columns[site]
            kept[:, columns] = choices[:, here]
            if errors != "chosen":
                kept[:, -1] = errors == "kept"
            both = torch.from_numpy(kept).to(dictionary.decoder.device)
            masks[site] = (both[:, :-1], both[:, -1])
        return self.run_masks(masks, ablation)

    @torch.no_grad()
    def run_masks(self, masks: Masks, ablation: str = "resample") -> Float[np.ndarray, "circuit prompt"]:
        """The metric under each circuit, prompts in the order of their index.

        Args:
            masks: what each circuit keeps.
            ablation: what all else is set to.
        """
        card, n_circuits = ABLATIONS.get(ablation), len(next(iter(masks.values()))[1])
        index, values, ranked = [], [], _alike_together(masks)
        with bar(n_circuits * sum(map(len, ranks().shard(self._batches))), "circuits") as shown:
            for streams in self._own_streams():
                blocks = []
                at_once = max(1, STREAM_BYTES // (streams.start.numel() * streams.start.element_size()))
                for first in range(0, n_circuits, at_once):
                    now = ranked[first : first + at_once]
                    kept = {site: (features[now], error[now]) for site, (features, error) in masks.items()}
                    blocks.append(self._block(streams, kept, card))
                    shown.update(blocks[-1].numel())
                values.append(as_array(torch.cat(blocks)[ranked.argsort()].T))
                index.append(streams.batch.index.numpy(force=True))
        rows, order = (gather_rows(np.concatenate(own) if own else None) for own in (values, index))
        return np.ascontiguousarray(rows[np.argsort(order, kind="stable")].T)

    @cached_property
    def _columns(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """site -> places of its items, and their columns in a mask (the error comes last)."""
        parsed = [parse_node(item) for item in self.items]
        return {
            site: (
                np.array([place for place, node in enumerate(parsed) if node.site == site], dtype=np.int64),
                np.array(
                    [
                        dictionary.d_sae if node.feature is None else node.feature
                        for node in parsed
                        if node.site == site
                    ],
                    dtype=np.int64,
                ),
            )
            for site, dictionary in self.task.dictionaries.items()
        }

    @cached_property
    def _batches(self) -> list[PairBatch]:
        return list(self.task.batches())

    @cached_property
    def _kept(self) -> list[Streams] | None:
        """This rank's streams, where all of them fit."""
        width = self.task.model.cfg.d_model * (len(self.task.saes) + 1)
        if 4 * self.task.prompts.n_tokens * width > KEPT_BYTES:
            return None
        return list(_streams(self.task, ranks().shard(self._batches)))

    def _own_streams(self) -> Iterator[Streams]:
        if self._kept is not None:
            return iter(self._kept)
        return _streams(self.task, ranks().shard(self._batches))

    @cached_property
    def _means(self) -> dict[str, NodeValues]:
        """site -> means over all corrupt prompts and positions."""
        task = self.task if self.mean_over is None else self.task.on(self.mean_over)
        sums: dict[str, list] = {site: [0.0, 0.0] for site in task.saes}
        for streams in _streams(task, task.batches()):
            for site, total in sums.items():
                values = NodeValues.of(task.dictionaries[site], streams.corrupt[site])
                total[0] = total[0] + values.features.sum((0, 1), keepdim=True)
                total[1] = total[1] + values.error.sum((0, 1), keepdim=True)
        count = task.prompts.n_tokens
        return {site: NodeValues(features / count, error / count) for site, (features, error) in sums.items()}

    @cached_property
    def _last_only(self) -> bool:
        return all(
            self.task.reads_last(group.clean.shape[1], group.index) for group in self.task.prompts.groups
        )

    def _base(self, streams: Streams, site: str, card: Ablation, last: bool = False) -> NodeValues:
        corrupt = streams.corrupt[site][:, -1:] if last else streams.corrupt[site]
        other = NodeValues.of(self.task.dictionaries[site], corrupt)
        mean = self._means[site] if card.needs_mean else None
        values = ((other.features, mean and mean.features), (other.error, mean and mean.error))
        return NodeValues(*(card.value(own, average) for own, average in values))

    def _block(self, streams: Streams, masks: Masks, card: Ablation) -> Float[Tensor, "circuit prompt"]:
        """A block of circuits on one batch."""
        if not all(map(is_stream, self.task.saes)):
            return self._in_one_pass(streams, masks, card)
        streams = streams.under(card)
        which = torch.zeros(len(next(iter(masks.values()))[1]), dtype=torch.long)
        x, at, final = streams.start[None], next(iter(self.task.saes)), self._final_site
        for site, dictionary in self.task.dictionaries.items():
            x, at = self._onward(streams, x, at, site), site
            last = self._last_only and blocks_before(site) == blocks_before(final)
            base = self._base(streams, site, card, last)
            x, which = _edited(dictionary, x[:, :, -1:] if last else x, base, masks[site], which)
        x = self._onward(streams, x, at, final)
        return self._measured(streams.batch, x[:, :, -1:] if self._last_only else x)[which]

    @property
    def _final_site(self) -> str:
        return residual_site(self.task.model.cfg.n_layers - 1)

    def _onward(
        self, streams: Streams, x: Tensor, start: str, stop: str
    ) -> Float[Tensor, "group prompt pos d_model"]:
        """The streams at a later site."""
        if blocks_before(start) == blocks_before(stop):
            return x
        flat, parts, rows = x.flatten(0, 1), [], max(1, self.task.max_tokens // x.shape[2])
        prompts = torch.arange(len(streams.batch), device=x.device).repeat(len(x))
        for first in range(0, len(flat), rows):
            now = slice(first, first + rows)
            tokens = streams.batch.clean[prompts[now]]
            parts.append(streams.from_site.onward(tokens, start, flat[now], stop, rows=prompts[now]))
        return torch.cat(parts).view_as(x)

    def _measured(self, batch: PairBatch, streams: Tensor) -> Float[Tensor, "group prompt"]:
        flat, values, index = streams.flatten(0, 1), [], batch.index.repeat(len(streams))
        # whole batches, as the metric knows them
        rows = len(batch) * max(1, self.task.max_tokens // (len(batch) * streams.shape[2]))
        for first in range(0, len(flat), rows):
            now = slice(first, first + rows)
            logits = resume(self.task.model, _tokens(batch, flat[now]), self._final_site, flat[now])
            values.append(measure(self.task.metric, logits, index[now]))
        return torch.cat(values).view(len(streams), -1)

    def _in_one_pass(self, streams: Streams, masks: Masks, card: Ablation) -> Float[Tensor, "circuit prompt"]:
        """For sites that are not the whole stream: hooks of passes from the start."""
        batch, values, task = streams.batch, [], self.task
        base = {site: self._base(streams, site, card) for site in task.saes}
        n_circuits, at_once = (
            len(next(iter(masks.values()))[1]),
            max(1, task.max_tokens // batch.clean.numel()),
        )
        for start in range(0, n_circuits, at_once):
            count = min(at_once, n_circuits - start)
            keep = {
                site: Keep(*(mask[start : start + count].repeat_interleave(len(batch), 0) for mask in both))
                for site, both in masks.items()
            }
            tiled = {
                site: NodeValues(
                    *(
                        value if len(value) == 1 else value.repeat(count, 1, 1)
                        for value in (held.features, held.error)
                    )
                )
                for site, held in base.items()
            }
            with keep_only(task.model, task.saes, keep, tiled):
                tokens, index = batch.clean.repeat(count, 1), batch.index.repeat(count)
                metric = run_metric(task.model, tokens, task.metric, index)
            values.append(metric.view(count, -1))
        return torch.cat(values)


def _streams(task: Task, batches: Sequence[PairBatch] | Iterator[PairBatch]) -> Iterator[Streams]:
    first = next(iter(task.saes))
    for batch in batches:
        sides = feature_sides(task, batch, gradient=False)
        corrupt = {site: sides.corrupt.values[site] for site in task.saes}
        from_site = FromSite.of(task, batch, prefix=True)
        yield Streams(batch, sides.clean.values[first], corrupt, from_site)


def _edited(
    dictionary: Dictionary,
    streams: Float[Tensor, "group prompt pos d_model"],
    base: NodeValues,
    kept: tuple[Tensor, Tensor],
    which: Tensor,
) -> tuple[Float[Tensor, "split prompt pos d_model"], Tensor]:
    """The streams after a site, one per group of circuits that agreed before and agree here, and each
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
        live = dictionary.encode(x)
        moved, live_error = live - base.features, None
        for place in [place for place, own in enumerate(parents) if own == parent]:
            keep, with_error = groups[place, 1:-1].bool(), bool(groups[place, -1])
            if with_error and 2 * int(keep.sum()) > len(keep):  # few are missing
                out[place] = x - moved[..., ~keep] @ dictionary.decoder[~keep]
                continue
            if with_error and live_error is None:
                live_error = x - dictionary.decode(live)
            rest = live_error if with_error else base.error
            out[place] = floor + rest + moved[..., keep] @ dictionary.decoder[keep]
    return out, after.cpu()


def _tokens(batch: PairBatch, streams: Tensor) -> Tensor:
    """Tokens of the right shape; which they are makes no difference after the embeddings."""
    return batch.clean[:1, : streams.shape[1]].expand(len(streams), -1)


def _alike_together(masks: Masks) -> Tensor:
    """The circuits in an order in which those that agree at the first sites stand together."""
    keys = torch.cat(
        [torch.cat([features, error[:, None]], dim=1) for features, error in masks.values()], dim=1
    )
    packed = np.packbits(keys.cpu().numpy(), axis=1)
    return torch.from_numpy(np.lexsort(packed.T[::-1]))
