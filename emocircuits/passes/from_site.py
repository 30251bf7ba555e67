"""The metric as a function of what one site holds: the blocks before it are not run, nor the logits that the
metric does not read.
"""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.names import is_stream, residual_site
from emocircuits.passes.edit import edited
from emocircuits.passes.metric import measure, run_metric
from emocircuits.passes.prompt_pairs import PairBatch
from emocircuits.passes.resume import resume
from emocircuits.passes.task import Task


@dataclass(frozen=True, eq=False)
class FromSite:
    """The metric of a task, from a site on.

    Attributes:
        task: the model and the metric.
        last: whether the metric reads the last position alone.
    """

    task: Task
    last: bool

    @classmethod
    def of(cls, task: Task, batch: PairBatch) -> "FromSite":
        """The metric on prompts as long as these."""
        return cls(task, task.reads_last(batch.clean.shape[1], batch.index))

    def __call__(
        self,
        tokens: Int[Tensor, "prompt pos"],
        index: Int[Tensor, "prompt"],
        site: str,
        stream: Float[Tensor, "prompt pos d_model"],
    ) -> Float[Tensor, "prompt"]:
        """The metric of each prompt when the site holds `stream`; hooks at later sites are run.

        Args:
            tokens: the prompts.
            index: their numbers.
            site: hook name.
            stream: what it holds; gradients reach it.

        Raises:
            UserError: the metric is not one value per prompt.
        """
        model, metric = self.task.model, self.task.metric
        if is_stream(site):
            if self.last:  # the final norm, too, is then computed at the last position alone
                final = residual_site(model.cfg.n_layers - 1)
                stream = resume(model, tokens, site, stream, until=final)[:, -1:]
                tokens, site = tokens[:, -1:], final
            return measure(metric, resume(model, tokens, site, stream), index)
        with edited(
            model, {site: lambda x: stream.to(x.dtype)}, what="a run from a site on", must_change=False
        ):
            return run_metric(model, tokens, metric, index)
