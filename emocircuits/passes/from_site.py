"""The metric as a function of what one site holds: the blocks before it are not run, nor the logits that the
metric does not read.
"""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.names import is_stream, residual_site
from emocircuits.passes.edit import edited
from emocircuits.passes.last_position import reads_last_position, run_metric
from emocircuits.passes.pairs import Metric, PairBatch, measure
from emocircuits.passes.resume import resume


@dataclass(frozen=True, eq=False)
class FromSite:
    """A metric, from a site on.

    Attributes:
        model: any TransformerLens object.
        metric: logits -> one value per prompt.
        last: whether the metric reads the last position alone.
    """

    model: Any
    metric: Metric
    last: bool

    @classmethod
    def of(cls, model: Any, metric: Metric, batch: PairBatch) -> "FromSite":
        """The metric on prompts as long as these."""
        return cls(model, metric, reads_last_position(model, metric, batch.clean.shape[1], batch.index))

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
        if is_stream(site):
            if self.last:  # the final norm, too, is then computed at the last position alone
                final = residual_site(self.model.cfg.n_layers - 1)
                stream = resume(self.model, tokens, site, stream, until=final)[:, -1:]
                tokens, site = tokens[:, -1:], final
            return measure(self.metric, resume(self.model, tokens, site, stream), index)
        with edited(
            self.model, {site: lambda x: stream.to(x.dtype)}, what="a run from a site on", must_change=False
        ):
            return run_metric(self.model, tokens, self.metric, index)
