"""Attribution patching over SAE features and error nodes: every node at every site for 2 forward passes + 1
backward pass.

    effect of feature i = sum over positions of (f_clean - f_corrupt)_i * dM/df_i
    effect of an error  = sum over positions of <e_clean - e_corrupt, dM/de>

with the gradient on the corrupt run (TransformerLens' sign): positive means that patching the clean value
into the corrupt run raises the metric. At each site the effects of all features and the error add up to
<x_clean - x_corrupt, dM/dx>, whatever the SAE. On a linear model the effects equal those of `exact_patching`
(Nanda 2023; Marks et al. 2024, who take the gradient at the clean run and so have the opposite sign).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.attribution.methods.card import METHODS, MethodCard
from emocircuits.errors import UserError
from emocircuits.graphs.linearise import PairRun, run_pair
from emocircuits.graphs.parts import Pair
from emocircuits.names import NodeId, format_node
from emocircuits.passes.anatomy import Anatomy
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch
from emocircuits.passes.record import Pass, differentiate
from emocircuits.passes.shared import Shared
from emocircuits.ranks import gather_rows
from emocircuits.sae.dictionary import Dictionary, open_dictionaries

CONVENTIONS = {
    "sign": "positive: patching the clean value into the corrupt run raises the metric",
    "gradient": "corrupt run",
    "baseline": "corrupt prompt (resample)",
}


def corrupt_point(
    anatomy: Anatomy, chunk: PairBatch, pair: Pair, metric: Metric, taps: Sequence[str]
) -> Iterator[tuple[float, Pass]]:
    """The one differentiated pass of attribution patching, on the corrupt prompts; none where the pair has it
    already.
    """
    if pair.live.grads:
        yield 1.0, pair.live
        return
    yield 1.0, differentiate(anatomy, chunk.corrupt, metric, chunk.index, taps)


def attribution_patching(
    model: Any,
    saes: Mapping[str, Any],
    batches: Sequence[PairBatch],
    metric: Metric,
    *,
    behaviour: str = "",
    positions: bool = False,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> AttributionResult:
    """Effects of all nodes that differ between the runs, per prompt.

    Args:
        model: any TransformerLens object.
        saes: site -> inference SAE.
        batches: prompt pairs, grouped by length.
        metric: logits -> one value per prompt.
        behaviour: name stored in the result.
        positions: one node per token position instead of the sum over positions.
        max_tokens: tokens per pass.

    Returns:
        Nodes with a nonzero effect on at least one prompt, in the order of site, position, feature (the error
        last); prompts in the order of their index.

    Raises:
        UserError: wrong shapes, a metric that is not differentiable, SAEs that do not fit, prompts without
            any difference.
        Failure: NaN.
    """

    def run(dictionaries: Mapping[str, Dictionary], chunk: PairBatch) -> PairRun:
        return run_pair(model, dictionaries, chunk, metric)

    return effects_of(
        model,
        saes,
        batches,
        run,
        behaviour=behaviour,
        positions=positions,
        max_tokens=max_tokens,
        conventions={"method": "attribution_patching"},
    )


def effects_of(
    model: Any,
    saes: Mapping[str, Any],
    batches: Sequence[PairBatch],
    run_batch: Callable[[Mapping[str, Dictionary], PairBatch], PairRun],
    *,
    behaviour: str,
    positions: bool,
    max_tokens: int,
    conventions: Mapping[str, str],
) -> AttributionResult:
    """Gradient times clean - corrupt of every node, whatever run the gradient comes from (see
    `attribution_patching`).
    """
    dictionaries = open_dictionaries(saes, getattr(model.cfg, "d_model", None))
    length = max(batch.clean.shape[1] for batch in batches) if positions else 1
    width = 1 + max(dictionary.d_sae for dictionary in dictionaries.values())
    shared, entries = Shared(batches, max_tokens, "attribution"), []
    for chunk in shared.mine():
        run = run_batch(dictionaries, chunk)
        entries += [
            _entries(run, number, site, length, width, positions) for number, site in enumerate(dictionaries)
        ]
        shared.keep(chunk, chunk.index, run.metric_clean, run.metric_corrupt, passes=run.passes)
    (index, clean, corrupt), passes = shared.collect()
    own = [np.concatenate(parts) for parts in zip(*entries, strict=True)] if entries else [None] * 3
    prompts, codes, values = map(gather_rows, own)
    if not len(values):
        raise UserError(
            "no node differs between the clean and the corrupt prompts",
            cure="check that the pairs differ and that the metric reads the last token",
        )
    used, column = np.unique(codes, return_inverse=True)
    if (used % width == width - 1).all() and width > 1:
        raise UserError(
            f"no feature of the SAEs at {', '.join(dictionaries)} differs between the clean and the corrupt "
            "prompts, only their errors do",
            expected="features that are active on these prompts",
            cure="check that the SAEs were trained on this model and site",
        )
    effects = np.zeros((len(index), len(used)), dtype=values.dtype)
    effects[np.searchsorted(index, prompts), column] = values
    names = [_name(int(code), list(dictionaries), length, width, positions) for code in used]
    conventions = {**CONVENTIONS, **conventions, "positions": "separate" if positions else "summed"}
    return AttributionResult(
        behaviour, tuple(names), effects, clean, corrupt, conventions, int(np.ceil(passes - 1e-9))
    )


def _entries(run: PairRun, number: int, site: str, length: int, width: int, positions: bool) -> tuple:
    """Nonzero effects of one site as (prompt, code, value); the code counts site, position, feature (the
    error comes last).
    """
    at = run.sites[site]
    n_prompts, n_positions, d_sae = *at.clean.shape[:2], at.dictionary.d_sae
    kept = n_positions if positions else 1  # positions that stay apart
    entries, values = at.entries, at.entries.values * at.entry_grads()
    place = (entries.rows // n_positions) * kept + (entries.rows % n_positions if positions else 0)
    table = values.new_zeros(n_prompts * kept * d_sae).index_add_(0, place * d_sae + entries.features, values)
    table = table.view(n_prompts, kept, d_sae)
    grad = at.grad if positions else at.grad.sum(1, keepdim=True)
    if at.shared is not None:
        table -= at.shared * (grad @ at.dictionary.decoder.T)
    error = (at.delta_error * at.grad).sum(-1)
    error = error if positions else error.sum(1, keepdim=True)
    parts, index = [], run.batch.index.numpy(force=True)
    for values, columns in ((table, np.arange(d_sae)), (error[..., None], np.array([width - 1]))):
        row, position, column = (part.numpy(force=True) for part in values.nonzero(as_tuple=True))
        parts.append(
            (
                index[row],
                (number * length + position) * width + columns[column],
                values[values != 0].numpy(force=True),
            )
        )
    return tuple(np.concatenate(both) for both in zip(*parts, strict=True))


def _name(code: int, sites: list[str], length: int, width: int, positions: bool) -> str:
    place, column = divmod(code, width)
    number, position = divmod(place, length)
    error = column == width - 1
    return format_node(
        NodeId(
            "error" if error else "feature",
            site=sites[number],
            feature=None if error else column,
            position=position if positions else None,
        )
    )


METHODS.add(
    MethodCard(
        "attribution_patching",
        "gradient at the corrupt run times the clean - corrupt difference; "
        "2 forward passes + 1 backward pass",
        attribution_patching,
        exact=False,
    )
)
