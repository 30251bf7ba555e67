"""Real patches of SAE features and errors, and of the edges between them.

    effect of a node = M(corrupt run with x + delta at the node's site) - M(corrupt run)

with delta = (f_clean - f_corrupt)_i * decoder_i for a feature and e_clean - e_corrupt for an error node, at
all positions at once (or at the node's own). Many nodes run side by side along the batch axis; where a
prompt's delta is zero the effect is zero and nothing is run.

An edge u -> d between adjacent sites lets d alone answer to u: u takes its clean value in the corrupt run,
everything up to the next site is computed again, and of all that changed there only d's own activation (or
the error vector) is put into a second corrupt run:

    edge(u -> d) = M(corrupt run with d as it answers to u) - M(corrupt run)

The upstream runs are shared by all edges of a node, so an edge costs one pass and a share of another. In the
clean run the patch goes the other way: M(clean) - M(clean run with x - delta).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from emocircuits.graphs.feature_sides import FeatureSides
from emocircuits.graphs.site_nodes import SiteNodes, deltas, position_mask
from emocircuits.names import blocks_before, is_stream, parse_node
from emocircuits.passes.edit import edited
from emocircuits.passes.from_site import FromSite
from emocircuits.passes.task import Task
from emocircuits.sae.dictionary import Dictionary

KEPT_BYTES = 1 << 29  # of the feature activations of both sides of all prompts


@dataclass
class FeaturePatcher:
    """Patches in one batch of prompts; see `Patcher`.

    Attributes:
        task: the model, its SAEs and the metric.
        by_site: the graph's nodes, by site.
        names: their ids, in the order of their numbers; the number after the last is the logits.
        sides: both runs.
        rows: how many prompts were run so far.
    """

    task: Task
    by_site: Mapping[str, SiteNodes]
    names: Sequence[str]
    sides: FeatureSides
    rows: int = field(default=0, init=False)

    def nodes(self, nodes: Sequence[int], background: str = "corrupt") -> Float[Tensor, "prompt node"]:
        """See `Patcher`."""
        effects = self.sides.live.metric.new_zeros(len(self.sides.batch), len(nodes))
        for site, columns in self._by_site(nodes).items():
            group = self._group(site, [nodes[column] for column in columns])
            effects[:, columns] = self._patched(site, group, background)
        return effects

    def slots(self, slots: Sequence[int], background: str = "corrupt") -> Float[Tensor, "prompt slot"]:
        """See `Patcher`; a slot holds what its node holds."""
        return self.nodes(slots, background)

    def edges(
        self, edges: Sequence[tuple[int, int]], background: str = "corrupt"
    ) -> Float[Tensor, "prompt edge"]:
        """See `Patcher`."""
        effects = self.sides.live.metric.new_zeros(len(self.sides.batch), len(edges))
        into_logits = [number for number, (_, slot) in enumerate(edges) if slot == len(self.names)]
        if into_logits:
            effects[:, into_logits] = self.nodes([edges[number][0] for number in into_logits], background)
        by_source: dict[int, list[int]] = {}
        for number, (source, slot) in enumerate(edges):
            if slot != len(self.names):
                by_source.setdefault(source, []).append(number)
        for source, numbers in by_source.items():
            change, site = self._answers(source, [edges[number][1] for number in numbers], background)
            effects[:, numbers] = self._added(site, change, background)
        return effects

    def together(
        self, node: int, slots: Sequence[int], background: str = "corrupt"
    ) -> Float[Tensor, "prompt"]:
        """See `Patcher`."""
        if len(self.names) in slots:
            return self.nodes([node], background)[:, 0]
        change, site = self._answers(node, list(slots), background)
        return self._added(site, change.sum(0, keepdim=True), background)[:, 0]

    @torch.no_grad()
    def changed(self) -> Bool[np.ndarray, "node"]:
        """See `Patcher`."""
        moved = np.zeros(len(self.names), dtype=bool)
        for site, columns in self._by_site(range(len(self.names))).items():
            group = self._group(site, columns)
            moved[columns] = (deltas(self.sides.sites[site], group) != 0).flatten(1).any(1).numpy(force=True)
        return moved

    def busy(self, edges: Sequence[tuple[int, int]], background: str = "corrupt") -> Bool[np.ndarray, "edge"]:
        """See `Patcher`; what runs through a model between two sites is not known without a pass, so every
        edge of a node that changes may be.
        """
        return self.changed()[[source for source, _ in edges]] if len(edges) else np.zeros(0, dtype=bool)

    def _by_site(self, nodes: Sequence[int]) -> dict[str, list[int]]:
        """site -> places in `nodes` of its nodes."""
        columns: dict[str, list[int]] = {}
        for column, node in enumerate(nodes):
            columns.setdefault(self._site_of[node], []).append(column)
        return columns

    @cached_property
    def _site_of(self) -> list[str]:
        return [str(parse_node(name).site) for name in self.names]

    @cached_property
    def _place(self) -> dict[str, int]:
        """node id -> its place in the group of its site."""
        return {name: place for group in self.by_site.values() for place, name in enumerate(group.ids)}

    def _group(self, site: str, nodes: Sequence[int]) -> SiteNodes:
        return self.by_site[site].part([self._place[self.names[node]] for node in nodes])

    def _side(self, background: str) -> tuple[bool, int]:
        """Whether patches go into the clean run, and the sign of what they add."""
        into_clean = background == "clean" or self.sides.ablated
        return into_clean, -1 if into_clean else 1

    def _live(self, site: str, into_clean: bool) -> Float[Tensor, "prompt pos d_model"]:
        at = self.sides.sites[site]
        return at.clean if into_clean else at.corrupt

    def _tokens(self, into_clean: bool) -> Int[Tensor, "prompt pos"]:
        return self.sides.batch.clean if into_clean else self.sides.batch.corrupt

    @property
    def _rows_at_once(self) -> int:
        return max(1, self.task.max_tokens // self.sides.batch.clean.shape[1])

    @cached_property
    def _metric_from(self) -> FromSite:
        return FromSite.of(self.task, self.sides.batch, prefix=True)

    @torch.no_grad()
    def _patched(self, site: str, group: SiteNodes, background: str) -> Float[Tensor, "prompt node"]:
        """Effects of the nodes of one site."""
        sign = self._side(background)[1]
        block = max(1, self._rows_at_once // len(self.sides.batch))

        def changes() -> Iterator[Float[Tensor, "node prompt pos d_model"]]:
            for start in range(0, len(group), block):
                yield sign * deltas(self.sides.sites[site], group.part(slice(start, start + block)))

        return self._measured(site, changes(), len(group), background)

    @torch.no_grad()
    def _added(
        self, site: str, change: Float[Tensor, "item prompt pos d_model"], background: str
    ) -> Float[Tensor, "prompt item"]:
        """Effects of changes of the live stream at a site."""
        return self._measured(site, iter([change]), len(change), background)

    def _measured(
        self,
        site: str,
        changes: Iterator[Float[Tensor, "item prompt pos d_model"]],
        count: int,
        background: str,
    ) -> Float[Tensor, "prompt item"]:
        """What changes of the stream at a site do to the metric; those that are zero are not run."""
        into_clean, sign = self._side(background)
        live, tokens, index = self._live(site, into_clean), self._tokens(into_clean), self.sides.batch.index
        base = self.sides.clean.metric if into_clean else self.sides.corrupt.metric
        effects, first = base.new_zeros(len(base), count), 0
        waiting: list[tuple[Tensor, Tensor, Tensor]] = []

        def flush(everything: bool) -> None:
            change, item, prompt = (torch.cat(parts) for parts in zip(*waiting, strict=True))
            rows = self._rows_at_once
            whole = len(change) if everything else len(change) // rows * rows
            for start in range(0, whole, rows):
                now = slice(start, min(start + rows, whole))
                who = prompt[now]
                patched = self._metric_from(
                    tokens[who],
                    index[who.to(index.device)],
                    site,
                    (live[who] + change[now].to(live.dtype)).to(self.task.dtype),
                    rows=who.to(tokens.device),
                )
                effects[who, item[now]] = (sign * (patched - base[who])).to(effects.dtype)
                self.rows += len(who)
            waiting[:] = [(change[whole:], item[whole:], prompt[whole:])] if whole < len(change) else []

        for part in changes:
            item, prompt = (part != 0).flatten(2).any(-1).nonzero(as_tuple=True)
            if len(item):
                waiting.append((part[item, prompt], item + first, prompt))
            first += len(part)
            if sum(len(entry[1]) for entry in waiting) >= self._rows_at_once:
                flush(False)
        if waiting:
            flush(True)
        return effects

    @torch.no_grad()
    def _answers(
        self, source: int, targets: Sequence[int], background: str
    ) -> tuple[Float[Tensor, "node prompt pos d_model"], str]:
        """What each target alone writes more when the source changes, and the site of the targets."""
        into_clean, sign = self._side(background)
        upstream, downstream = self._site_of[source], self._site_of[targets[0]]
        delta = sign * deltas(self.sides.sites[upstream], self._group(upstream, [source]))[0]
        stream, before = self._live(downstream, into_clean), self._encoded(downstream, into_clean)
        after = self._onward(upstream, delta, downstream, into_clean)
        unread = max(self._unread(downstream), stream.shape[1] - after.shape[1])
        after = after[:, after.shape[1] - (stream.shape[1] - unread) :]
        self.rows += len(self.sides.batch)
        dictionary, nodes = self.task.dictionaries[downstream], self._group(downstream, targets)
        change = answers(dictionary, (stream[:, unread:], before[:, unread:]), after, nodes, unread)
        return torch.nn.functional.pad(change, (0, 0, unread, 0)), downstream

    def _unread(self, site: str) -> int:
        """How many first positions of a site no one reads: all but the last one of the stream after the last
        block, where the metric reads that alone.
        """
        ends = is_stream(site) and blocks_before(site) == self.task.model.cfg.n_layers
        return self.sides.batch.clean.shape[1] - 1 if ends and self._metric_from.last else 0

    def _encoded(self, site: str, into_clean: bool) -> Float[Tensor, "prompt pos d_sae"]:
        """Feature activations of a live stream; kept while they fit."""
        dictionary, stream = self.task.dictionaries[site], self._live(site, into_clean)
        if 8 * self.task.prompts.n_tokens * dictionary.d_sae * len(self.task.saes) > KEPT_BYTES:
            return dictionary.encode(stream)
        return self.sides.once((site, into_clean, "encoded"), lambda: dictionary.encode(stream))

    def _onward(
        self, upstream: str, delta: Float[Tensor, "prompt pos d_model"], downstream: str, into_clean: bool
    ) -> Float[Tensor, "prompt later d_model"]:
        """The live stream at a later site when `delta` is added at an earlier one, where it is read; what
        lies between two streams alone is run.
        """
        model, tokens = self.task.model, self._tokens(into_clean)
        stream = (self._live(upstream, into_clean) + delta).to(self.task.dtype)
        if is_stream(upstream) and is_stream(downstream):
            return self._metric_from.onward(tokens, upstream, stream, downstream)
        seen: list[Tensor] = []

        def keep(value: Tensor) -> Tensor:
            seen.append(value)
            return value

        edits = {upstream: lambda value: stream, downstream: keep}
        with edited(model, edits, what="a patch from site to site", must_change=False):
            model(tokens)
        return seen[0]


def answers(
    dictionary: Dictionary,
    before: tuple[Float[Tensor, "prompt pos d_model"], Float[Tensor, "prompt pos d_sae"]],
    after: Float[Tensor, "prompt pos d_model"],
    nodes: SiteNodes,
    first: int = 0,
) -> Float[Tensor, "node prompt pos d_model"]:
    """What each node alone writes more when the stream at its site changes.

    Args:
        dictionary: the SAE there.
        before: the stream before the change, and its feature activations.
        after: the stream after it.
        nodes: the nodes.
        first: position of the first column of the streams.
    """
    (stream, was), now = before, dictionary.encode(after)
    features = nodes.feature.clamp(min=0)
    written = (now - was)[..., features].permute(2, 0, 1)[..., None] * dictionary.decoder[features][
        :, None, None
    ]
    error = (after.to(now.dtype) - dictionary.decode(now)) - (stream.to(was.dtype) - dictionary.decode(was))
    out = torch.where((nodes.feature < 0)[:, None, None, None], error[None], written)
    mask = position_mask(nodes, first + out.shape[2])[:, first:]
    return out * mask.to(out.dtype)[:, None, :, None]
