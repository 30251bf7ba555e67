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
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from emocircuits.graphs.feature_sides import FeatureSides
from emocircuits.graphs.site_nodes import SiteNodes, Writes, deltas
from emocircuits.names import blocks_before, is_stream, parse_node
from emocircuits.passes.from_site import FromSite
from emocircuits.passes.task import Task
from emocircuits.sae.dictionary import Dictionary

KEPT_BYTES = 1 << 29  # of the feature activations of both sides of all prompts
NODES = 128  # nodes whose changes are known at once
SORTED = 4  # passes, whose rows are sorted by the position that they start at


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
        into: dict[str, dict[int, list[int]]] = {}
        for number, (source, slot) in enumerate(edges):
            if slot != len(self.names):
                into.setdefault(self._site_of[slot], {}).setdefault(source, []).append(number)
        for site, by_source in into.items():
            writes = (
                self._answers(source, [edges[number][1] for number in numbers], background)
                for source, numbers in by_source.items()
            )
            columns = [number for numbers in by_source.values() for number in numbers]
            effects[:, columns] = self._measured(site, writes, len(columns), background)
        return effects

    def together(
        self, node: int, slots: Sequence[int], background: str = "corrupt"
    ) -> Float[Tensor, "prompt"]:
        """See `Patcher`."""
        if len(self.names) in slots:
            return self.nodes([node], background)[:, 0]
        change = Writes.of_stream(self._answers(node, slots, background).dense().sum(0))
        return self._measured(self._site_of[slots[0]], iter([change]), 1, background)[:, 0]

    @torch.no_grad()
    def changed(self) -> Bool[np.ndarray, "node"]:
        """See `Patcher`."""
        moved = np.zeros(len(self.names), dtype=bool)
        for site, columns in self._by_site(range(len(self.names))).items():
            group = self._group(site, columns)
            moved[columns] = (
                (deltas(self.sides.sites[site], group).amount != 0).flatten(1).any(1).numpy(force=True)
            )
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
    def _metric_from(self) -> FromSite:
        return self.sides.metric_from(self.task)

    def _patched_from(self, into_clean: bool) -> FromSite:
        """The metric of runs with patches, in the clean or in the corrupt run."""
        make = partial(self._metric_from.patched, self._tokens(into_clean))
        return self.sides.once(("patched", into_clean), make)

    @torch.no_grad()
    def _patched(self, site: str, group: SiteNodes, background: str) -> Float[Tensor, "prompt node"]:
        """Effects of the nodes of one site."""
        sign, firsts = self._side(background)[1], range(0, len(group), NODES)
        writes = (deltas(self.sides.sites[site], group.part(slice(first, first + NODES))) for first in firsts)
        return self._measured(site, (written.times(sign) for written in writes), len(group), background)

    @torch.no_grad()
    def _measured(
        self,
        site: str,
        writes: Iterator[Writes],
        count: int,
        background: str,
    ) -> Float[Tensor, "prompt item"]:
        """What changes of the stream at a site do to the metric; those that are zero are not run."""
        into_clean, sign = self._side(background)
        live, tokens, index = self._live(site, into_clean), self._tokens(into_clean), self.sides.batch.index
        base = self.sides.clean.metric if into_clean else self.sides.corrupt.metric
        metric_from, length = self._patched_from(into_clean), tokens.shape[1]
        effects, n_items, waiting = base.new_zeros(len(base), count), 0, _Rows.none(live)

        def run(rows: _Rows) -> None:
            who = rows.prompt
            patched = metric_from(
                tokens[who],
                index[who.to(index.device)],
                site,
                (live[who] + rows.change.to(live.dtype)).to(self.task.dtype),
                rows=who.to(tokens.device),
                start=int(rows.start.min()),
            )
            effects[who, rows.item] = (sign * (patched - base[who])).to(effects.dtype)
            self.rows += len(who)

        for written in writes:
            moved = written.amount != 0
            item, prompt = moved.any(-1).nonzero(as_tuple=True)
            start = self._starts(moved[item, prompt], metric_from)
            per_part = max(1, self.task.max_tokens // length)
            for part in torch.arange(len(item), device=item.device).split(per_part):
                change = written.rows(item[part], prompt[part])
                waiting = waiting.with_rows(_Rows(change, item[part] + n_items, prompt[part], start[part]))
                if int((length - waiting.start).sum()) >= SORTED * self.task.max_tokens:
                    *full, waiting = waiting.passes(length, self.task.max_tokens)
                    for rows in full:
                        run(rows)
            n_items += len(written)
        for rows in waiting.passes(length, self.task.max_tokens):
            run(rows)
        return effects

    def _starts(self, moved: Bool[Tensor, "row pos"], metric_from: FromSite) -> Int[Tensor, "row"]:
        """The position that each row's pass may start at: the first that is changed."""
        first = moved.int().argmax(-1)
        if metric_from.prefix is None:
            return torch.zeros_like(first)
        return first.clamp(self._metric_from.prefix.length, metric_from.prefix.length)

    @torch.no_grad()
    def _answers(self, source: int, targets: Sequence[int], background: str) -> Writes:
        """What each target alone writes more when the source changes; all targets are at one site."""
        into_clean, sign = self._side(background)
        upstream, downstream = self._site_of[source], self._site_of[targets[0]]
        delta = deltas(self.sides.sites[upstream], self._group(upstream, [source])).times(sign).dense()[0]
        stream, before = self._live(downstream, into_clean), self._encoded(downstream, into_clean)
        after = self._onward(upstream, delta, downstream, into_clean)
        unread = max(self._unread(downstream), stream.shape[1] - after.shape[1])
        after = after[:, after.shape[1] - (stream.shape[1] - unread) :]
        self.rows += len(self.sides.batch)
        dictionary, nodes = self.task.dictionaries[downstream], self._group(downstream, targets)
        return answers(dictionary, (stream[:, unread:], before[:, unread:]), after, nodes, unread)

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
        stream = (self._live(upstream, into_clean) + delta).to(self.task.dtype)
        return self._metric_from.onward(self._tokens(into_clean), upstream, stream, downstream)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Patched runs: what is added at the site, the numbers of the item and of the prompt, and the position
    that the pass may start at.
    """

    change: Float[Tensor, "row pos d_model"]
    item: Int[Tensor, "row"]
    prompt: Int[Tensor, "row"]
    start: Int[Tensor, "row"]

    @classmethod
    def none(cls, like: Float[Tensor, "prompt pos d_model"]) -> "_Rows":
        empty = torch.zeros(0, dtype=torch.long, device=like.device)
        return cls(like[:0], empty, empty, empty)

    def with_rows(self, others: "_Rows") -> "_Rows":
        return _Rows(*(torch.cat(both) for both in zip(self._parts, others._parts, strict=True)))

    def passes(self, length: int, max_tokens: int) -> "list[_Rows]":
        """The same in passes of at most so many tokens, those that start late first; the last one may have
        room left. A pass starts at the first position of any of its rows.
        """
        rows, found = _Rows(*(part[self.start.argsort(descending=True)] for part in self._parts)), []
        while len(rows.start):
            counts = torch.arange(1, len(rows.start) + 1, device=rows.start.device)
            fit = max(1, int(((length - rows.start) * counts <= max_tokens).sum()))
            found.append(_Rows(*(part[:fit] for part in rows._parts)))
            rows = _Rows(*(part[fit:] for part in rows._parts))
        return found

    @property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.change, self.item, self.prompt, self.start


def answers(
    dictionary: Dictionary,
    before: tuple[Float[Tensor, "prompt pos d_model"], Float[Tensor, "prompt pos d_sae"]],
    after: Float[Tensor, "prompt pos d_model"],
    nodes: SiteNodes,
    first: int = 0,
) -> Writes:
    """What each node alone writes more when the stream at its site changes.

    Args:
        dictionary: the SAE there.
        before: the stream before the change, and its feature activations.
        after: the stream after it.
        nodes: the nodes.
        first: position of the first column of the streams.
    """
    (stream, was), now = before, dictionary.encode(after)
    error = (after.to(now.dtype) - dictionary.decode(now)) - (stream.to(was.dtype) - dictionary.decode(was))
    change = (now - was)[..., nodes.feature.clamp(min=0)]
    whole = (0, 0, first, 0)  # zeros at the positions that are not given
    return Writes.of(dictionary, nodes, pad(change, whole), pad(error, whole))
