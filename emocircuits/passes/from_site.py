"""The metric as a function of what one site holds: the blocks before it are not run, nor the logits that the
metric does not read.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.errors import UserError
from emocircuits.names import blocks_before, is_stream, residual_site
from emocircuits.passes.edit import edited
from emocircuits.passes.last_block import read_at_last_position
from emocircuits.passes.metric import measure, run_metric
from emocircuits.passes.prompt_pairs import PairBatch
from emocircuits.passes.record import Change
from emocircuits.passes.resume import resume
from emocircuits.passes.shared_prefix import SharedPrefix
from emocircuits.passes.task import Task

MOST_BYTES = 1 << 28  # of keys and values of a batch, which a search keeps for every batch


@dataclass(frozen=True, eq=False)
class FromSite:
    """The metric of a task, from a site on.

    Attributes:
        task: the model and the metric.
        last: whether the metric reads the last position alone.
        parts_known: whether the model's parts are known, so that its last block may be cut short.
        prefix: positions that the runs begin with alike, which are not run again.
    """

    task: Task
    last: bool
    parts_known: bool
    prefix: SharedPrefix | None = None

    @classmethod
    def of(cls, task: Task, batch: PairBatch, *, prefix: bool = False) -> "FromSite":
        """The metric on prompts as long as these; made before hooks are set, as it may run the model."""
        last = task.reads_last(batch.clean.shape[1], batch.index)
        shared = SharedPrefix.of(task.model, batch) if prefix and last else None
        return cls(task, last, last and _parts_known(task), shared)

    def __call__(
        self,
        tokens: Int[Tensor, "prompt pos"],
        index: Int[Tensor, "prompt"],
        site: str,
        stream: Float[Tensor, "prompt pos d_model"],
        *,
        final: Change | None = None,
        rows: Int[Tensor, "prompt"] | None = None,
        start: int | None = None,
    ) -> Float[Tensor, "prompt"]:
        """The metric of each prompt when the site holds `stream`; hooks at later sites are run.

        Args:
            tokens: the prompts.
            index: their numbers.
            site: hook name.
            stream: what it holds; gradients reach it.
            final: what is done to the stream after the last block, at the positions that are read.
            rows: the number of each prompt in the batch; by default it is the batch.
            start: the first position that is run; by default the one after the prefix.

        Raises:
            UserError: the metric is not one value per prompt.
        """
        model, metric = self.task.model, self.task.metric
        end = residual_site(model.cfg.n_layers - 1)
        if is_stream(site):
            if self.last or final is not None:
                stream = self.onward(tokens, site, stream, end, rows=rows, start=start)
                if self.last:  # the final norm, too, is then computed at the last position alone
                    stream, tokens = stream[:, -1:], tokens[:, -1:]
                stream, site = stream if final is None else final(stream), end
            return measure(metric, resume(model, tokens, site, stream), index)
        edits = {site: lambda x: stream.to(x.dtype), **({} if final is None else {end: final})}
        with edited(model, edits, what="a run from a site on", must_change=False):
            return run_metric(model, tokens, metric, index)

    def onward(
        self,
        tokens: Int[Tensor, "prompt pos"],
        site: str,
        stream: Float[Tensor, "prompt given d_model"],
        until: str,
        *,
        rows: Int[Tensor, "prompt"] | None = None,
        start: int | None = None,
    ) -> Float[Tensor, "prompt later d_model"]:
        """The stream at a later site. After a shared prefix it begins there; after the last block it is right
        where the metric reads it.

        Args:
            tokens: the prompts.
            site: hook name.
            stream: what it holds, whole or without the prefix.
            until: a later hook.
            rows, start: see `__call__`.
        """
        model = self.task.model
        if not (is_stream(site) and is_stream(until)):
            return self._edited(tokens, site, stream, until)
        ends = blocks_before(until) == model.cfg.n_layers
        with self._short(site) if ends else nullcontext():
            if self.prefix is None or blocks_before(site) == blocks_before(until):
                return resume(model, tokens, site, stream, until=until)
            start = self.prefix.length if start is None else start
            length = tokens.shape[1] - start
            rows = torch.arange(len(tokens), device=tokens.device) if rows is None else rows
            past = self.prefix.cache(rows, blocks_before(site), start)
            return resume(model, tokens[:, -length:], site, stream[:, -length:], until=until, past=past)

    def patched(self, tokens: Int[Tensor, "prompt pos"]) -> "FromSite":
        """The same for runs of these prompts that a patch changes from some position on; the shared prefix
        alone where keys and values of all positions would take too much memory.
        """
        length = tokens.shape[1] - 1
        if self.prefix is None or self.prefix.nbytes / self.prefix.length * length > MOST_BYTES:
            return self
        return replace(self, prefix=SharedPrefix.of_tokens(self.task.model, tokens[:, :length], tokens[:1]))

    def without_prefix(self) -> "FromSite":
        """The same for runs that differ at the shared positions, too."""
        return replace(self, prefix=None)

    def _edited(
        self,
        tokens: Int[Tensor, "prompt pos"],
        site: str,
        stream: Float[Tensor, "prompt pos d_model"],
        until: str,
    ) -> Float[Tensor, "prompt pos d_model"]:
        """The value at a later hook, from a pass through the whole model."""
        seen: list[Tensor] = []

        def keep(value: Tensor) -> Tensor:
            seen.append(value)
            return value

        edits = {site: lambda value: stream, until: keep}
        with edited(self.task.model, edits, what="a pass from site to site", must_change=False):
            self.task.model(tokens)
        return seen[0]

    def _short(self, site: str) -> AbstractContextManager[None]:
        """Computes what the last block adds where it is read."""
        runs = self.parts_known and blocks_before(site) < self.task.model.cfg.n_layers
        return read_at_last_position(self.task.anatomy) if runs else nullcontext()


def _parts_known(task: Task) -> bool:
    try:
        return bool(task.anatomy.layers)
    except UserError:
        return False
