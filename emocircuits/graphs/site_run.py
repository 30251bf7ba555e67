"""One site on both runs of a batch: streams, what its features and error change, and the effects that follow
from a gradient.

Streams are dense, features are not: only the entries that differ between the runs are kept, as (row, feature,
value), so memory grows with active features and not with d_sae times positions. They are found in parts of a
few hundred rows.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.errors import UserError
from emocircuits.interventions.ablate import NodeValues
from emocircuits.sae.dictionary import Dictionary

PART_ENTRIES = 1 << 23  # of a dense (row, feature) matrix at a time
SPARSE = 0.05  # share of entries below which inner products are taken one by one


@dataclass(frozen=True, eq=False)
class Entries:
    """Entries of a (row, feature) matrix that are not zero, rows ascending; a row is a position of
    a prompt.
    """

    rows: Int[Tensor, "entry"]
    features: Int[Tensor, "entry"]
    values: Float[Tensor, "entry"]


@dataclass(frozen=True, eq=False)
class SiteRun:
    """One site on both runs of a batch.

    Attributes:
        dictionary: the SAE there.
        clean, corrupt: the stream, in the precision of the SAE; without an aligned pair `corrupt` is the
            baseline stream.
        grad: gradient of the metric at the live stream, or None where only forward passes were run.
        baseline: what features and error are compared with, where that is not what the SAE makes of
            `corrupt`.
        ablated: whether the live stream, into which patches go, is the clean one.
    """

    dictionary: Dictionary
    clean: Float[Tensor, "prompt pos d_model"]
    corrupt: Float[Tensor, "prompt pos d_model"]
    grad: Float[Tensor, "prompt pos d_model"] | None = None
    baseline: NodeValues | None = None
    ablated: bool = False

    def __post_init__(self) -> None:
        for name in ("clean", "corrupt", "grad"):
            value = getattr(self, name)
            if value is None:
                continue
            if value.shape[-1] != self.dictionary.d_in:
                raise UserError(
                    f"the SAE at {self.dictionary.site} has d_in {self.dictionary.d_in}",
                    expected=f"the site's width {value.shape[-1]}",
                )
            object.__setattr__(self, name, value.to(self.dictionary.decoder.dtype))

    @property
    def live(self) -> Float[Tensor, "prompt pos d_model"]:
        """The stream of the run that patches go into."""
        return self.clean if self.ablated else self.corrupt

    @cached_property
    def features_clean(self) -> Float[Tensor, "prompt pos d_sae"]:
        """Feature activations on the clean run (dense)."""
        return self.dictionary.encode(self.clean)

    @cached_property
    def features_corrupt(self) -> Float[Tensor, "prompt pos d_sae"]:
        """Feature activations on the corrupt run, or their baseline (dense)."""
        if self.baseline is not None:
            return self.baseline.features.expand(*self.clean.shape[:2], -1)
        return self.dictionary.encode(self.corrupt)

    @cached_property
    def delta_features(self) -> Float[Tensor, "prompt pos d_sae"]:
        """Feature activations, clean - corrupt (dense)."""
        return self.columns(torch.arange(self.dictionary.d_sae, device=self.clean.device))

    @cached_property
    def feature_grad(self) -> Float[Tensor, "prompt pos d_sae"]:
        """dM/df on the live run (dense)."""
        return self.grad @ self.dictionary.decoder.T

    @cached_property
    def shared(self) -> Float[Tensor, "d_sae"] | None:
        """What is subtracted from every row besides the entries: a baseline that is the same everywhere."""
        same = self.baseline is not None and self.baseline.features.shape[:2] == (1, 1)
        return self.baseline.features[0, 0] if same else None

    @property
    def delta_error(self) -> Float[Tensor, "prompt pos d_model"]:
        """What the SAE leaves unexplained, clean - corrupt (the decoder bias cancels)."""
        return self._changes[1]

    @property
    def entries(self) -> Entries:
        """Feature activations, clean - corrupt, where they differ; with a shared baseline those of the clean
        run.
        """
        return self._changes[0]

    @cached_property
    @torch.no_grad()
    def _changes(self) -> tuple[Entries, Float[Tensor, "prompt pos d_model"]]:
        dictionary, width = self.dictionary, max(1, self.dictionary.d_sae)
        clean, corrupt = self.clean.flatten(0, 1), self.corrupt.flatten(0, 1)
        found, errors, step = [], [], max(1, PART_ENTRIES // width)
        for start in range(0, len(clean), step):
            here = slice(start, start + step)
            change = dictionary.encode(clean[here])
            if self.baseline is None:
                change = change - dictionary.encode(corrupt[here])
                error = clean[here] - corrupt[here]
            else:  # e_clean = x - decode(f), the baseline's error is its own
                features, rest = (
                    self._rows(value, here) for value in (self.baseline.features, self.baseline.error)
                )
                error = clean[here] - dictionary.decoder_bias - rest
                if self.shared is None:
                    error, change = error - features @ dictionary.decoder, change - features
            rows, features = change.nonzero(as_tuple=True)
            values = change[rows, features]
            errors.append(error - _written(dictionary, rows, features, values, change))
            found.append(Entries(rows + start, features, values))
        entries = Entries(
            *(torch.cat([getattr(one, name) for one in found]) for name in ("rows", "features", "values"))
        )
        return entries, torch.cat(errors).view(self.clean.shape)

    def _rows(self, value: Float[Tensor, "#prompt #pos width"], here: slice) -> Float[Tensor, "#row width"]:
        """Some rows of a baseline; one row where it is the same everywhere."""
        if value.shape[:2] == (1, 1):
            return value[0]
        return value.expand(*self.clean.shape[:2], -1).flatten(0, 1)[here]

    def columns(self, features: Int[Tensor, "chosen"]) -> Float[Tensor, "prompt pos chosen"]:
        """Changes of some features, dense."""
        entries, n_rows = self.entries, self.clean.shape[0] * self.clean.shape[1]
        place = torch.full((self.dictionary.d_sae,), -1, dtype=torch.long, device=features.device)
        place[features] = torch.arange(len(features), device=features.device)
        inside = place[entries.features] >= 0
        out = entries.values.new_zeros(n_rows, len(features))
        out[entries.rows[inside], place[entries.features[inside]]] = entries.values[inside]
        if self.shared is not None:
            out -= self.shared[features]
        return out.view(*self.clean.shape[:2], len(features))[..., place[features]]

    def entry_grads(self) -> Float[Tensor, "entry"]:
        """dM/df of every entry."""
        entries, grad = self.entries, self.grad.flatten(0, 1)
        out = torch.empty_like(entries.values)
        step = max(1, PART_ENTRIES // max(1, self.dictionary.d_sae))
        starts = torch.searchsorted(
            entries.rows, torch.arange(0, len(grad) + step, step, device=grad.device)
        ).tolist()
        for number, (first, last) in enumerate(zip(starts, starts[1:], strict=False)):
            rows, features = entries.rows[first:last], entries.features[first:last]
            part = grad[number * step : (number + 1) * step]
            if last - first > SPARSE * part.shape[0] * self.dictionary.d_sae:
                out[first:last] = (part @ self.dictionary.decoder.T)[rows - number * step, features].to(out)
                continue
            block = max(1, PART_ENTRIES // grad.shape[1])
            for begin in range(first, last, block):
                now = slice(begin, min(begin + block, last))
                pairs = grad[entries.rows[now]] * self.dictionary.decoder[entries.features[now]]
                out[now] = pairs.sum(1).to(out)
        return out


def _written(
    dictionary: Dictionary,
    rows: Int[Tensor, "entry"],
    features: Int[Tensor, "entry"],
    values: Float[Tensor, "entry"],
    dense: Float[Tensor, "row d_sae"],
) -> Float[Tensor, "row d_model"]:
    """Activations times decoder rows, without the bias."""
    if len(values) >= SPARSE * dense.numel():
        return dense @ dictionary.decoder
    counts = torch.bincount(rows, minlength=len(dense))
    starts = torch.cumsum(counts, 0) - counts
    return torch.nn.functional.embedding_bag(
        features, dictionary.decoder, starts, mode="sum", per_sample_weights=values
    )
