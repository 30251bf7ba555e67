"""The metric as a function of what one site holds: the blocks before it are not run, nor the logits that the metric does not read.

With a small vocabulary the logits of all positions cost as much as two blocks, with a large one as much as the whole model; most metrics
read the last position alone.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.attribution.pairs import Metric, PairBatch, measure
from emocircuits.errors import UserError
from emocircuits.interventions.hooks import edited
from emocircuits.models.resume import is_stream, logits_given

PROBE_NUMBERS = 1 << 26  # logits made up for the question whether a metric reads the last position alone


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
        return cls(model, metric, reads_last_position(model, metric, batch))

    def __call__(
        self, tokens: Int[Tensor, "prompt pos"], index: Int[Tensor, "prompt"], site: str, stream: Float[Tensor, "prompt pos d_model"]
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
            return measure(self.metric, logits_given(self.model, tokens, site, stream, last=self.last), index)
        with edited(self.model, {site: lambda x: stream.to(x.dtype)}, what="a run from a site on", must_change=False):
            return measure(self.metric, self.model(tokens), index)


@torch.no_grad()
def reads_last_position(model: Any, metric: Metric, batch: PairBatch) -> bool:
    """Whether a metric gives the same on the last position's logits alone; found by asking it about random logits."""
    length, vocabulary = batch.clean.shape[1], model.cfg.d_vocab
    if length == 1 or length * vocabulary > PROBE_NUMBERS:
        return False
    index = batch.index[: max(1, min(2, PROBE_NUMBERS // (length * vocabulary)))]
    weight = next(model.parameters())
    logits = torch.randn(len(index), length, vocabulary, generator=torch.Generator().manual_seed(0)).to(weight)
    try:
        whole, last = (measure(metric, value, index) for value in (logits, logits[:, -1:]))
    except (IndexError, RuntimeError, ValueError, UserError):  # it needs the other positions, or logits of the model
        return False
    return torch.equal(whole, last)
