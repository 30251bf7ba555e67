"""Every feature and error that has an effect: gradient times clean - corrupt at every site, kept sparse.

    effect of feature i = sum over positions of (f_clean - f_corrupt)_i * dM/df_i
    effect of an error  = sum over positions of <e_clean - e_corrupt, dM/de>

A dictionary may have many thousands of features of which few fire, so nodes are not listed beforehand: those
that do something on some prompt are found here, and a `FeatureGraph` is made of the ones that are wanted. At
each site the effects of all features and the error add up to <x_clean - x_corrupt, dM/dx>, whatever the SAE.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.errors import UserError
from emocircuits.graphs.feature_sides import FeatureSides
from emocircuits.graphs.site_run import SiteRun
from emocircuits.names import NodeId, format_node
from emocircuits.passes.gathered import Gathered, as_array, whole_passes
from emocircuits.passes.prompt_pairs import PairBatch
from emocircuits.passes.task import Task
from emocircuits.ranks import gather_rows

Entries = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Indices of prompts, codes of nodes, effects."""


@dataclass(frozen=True)
class _Codes:
    """Nodes as numbers that count site, position and feature, the error of a site last.

    Attributes:
        sites: the sites, in the order of the layers.
        width: features of the widest dictionary, and one for the error.
        length: positions that stay apart: 1 where effects are summed over positions.
        positions: whether nodes are at single positions.
    """

    sites: tuple[str, ...]
    width: int
    length: int
    positions: bool

    @classmethod
    def of(cls, task: Task, positions: bool) -> "_Codes":
        width = 1 + max(dictionary.d_sae for dictionary in task.dictionaries.values())
        return cls(tuple(task.saes), width, task.prompts.longest if positions else 1, positions)

    def name(self, code: int) -> str:
        """The id of a node."""
        place, column = divmod(code, self.width)
        number, position = divmod(place, self.length)
        error = column == self.width - 1
        return format_node(
            NodeId(
                "error" if error else "feature",
                site=self.sites[number],
                feature=None if error else column,
                position=position if self.positions else None,
            )
        )


def discover(
    task: Task,
    sides_of: Callable[[PairBatch], FeatureSides],
    conventions: Mapping[str, str],
    *,
    positions: bool = False,
) -> AttributionResult:
    """Effects of all features and errors that differ between the runs, per prompt.

    Args:
        task: the question.
        sides_of: batch -> both runs with the gradients that effects are taken with.
        conventions: what the result says about itself.
        positions: one node per token position instead of the sum over positions.

    Returns:
        Nodes with a nonzero effect on at least one prompt, in the order of site, position, feature (the error
        last); prompts in the order of their index.

    Raises:
        UserError: prompts without any difference, or on which no feature differs.
    """
    codes, gathered, entries = _Codes.of(task, positions), Gathered(task, "attribution"), []
    for batch in gathered.shard():
        sides = sides_of(batch)
        index = batch.index.numpy(force=True)
        entries += [_entries(at, number, codes, index) for number, at in enumerate(sides.sites.values())]
        gathered.keep(batch, batch.index, sides.clean.metric, sides.corrupt.metric, passes=sides.passes)
    (index, clean, corrupt), passes = gathered.collect()
    own = [np.concatenate(parts) for parts in zip(*entries, strict=True)] if entries else [None] * 3
    prompts, numbers, values = map(gather_rows, own)
    if not len(values):
        raise UserError(
            "no node differs between the clean and the corrupt prompts",
            cure="check that the pairs differ and that the metric reads the last token",
        )
    used, column = np.unique(numbers, return_inverse=True)
    if codes.width > 1 and (used % codes.width == codes.width - 1).all():
        raise UserError(
            f"no feature of the SAEs at {', '.join(codes.sites)} differs between the clean and the corrupt "
            "prompts, only their errors do",
            expected="features that are active on these prompts",
            cure="check that the SAEs were trained on this model and site",
        )
    effects = np.zeros((len(index), len(used)), dtype=values.dtype)
    effects[np.searchsorted(index, prompts), column] = values
    return AttributionResult(
        task.behaviour,
        tuple(codes.name(int(code)) for code in used),
        effects,
        clean,
        corrupt,
        {**conventions, "positions": "separate" if positions else "summed"},
        whole_passes(passes),
    )


def _entries(
    at: SiteRun, number: int, codes: _Codes, index: Float[np.ndarray, "prompt"] | np.ndarray
) -> Entries:
    """Nonzero effects of one site."""
    n_prompts, n_positions, d_sae = *at.clean.shape[:2], at.dictionary.d_sae
    apart = n_positions if codes.positions else 1
    entries, values = at.entries, at.entries.values * at.entry_grads()
    place = (entries.rows // n_positions) * apart + (entries.rows % n_positions if codes.positions else 0)
    table = values.new_zeros(n_prompts * apart * d_sae).index_add_(
        0, place * d_sae + entries.features, values
    )
    table = table.view(n_prompts, apart, d_sae)
    grad = at.grad if codes.positions else at.grad.sum(1, keepdim=True)
    if at.shared is not None:
        table -= at.shared * (grad @ at.dictionary.decoder.T)
    error = (at.delta_error * at.grad).sum(-1)
    error = error if codes.positions else error.sum(1, keepdim=True)
    parts = []
    for effects, columns in ((table, np.arange(d_sae)), (error[..., None], np.array([codes.width - 1]))):
        row, position, column = (where.numpy(force=True) for where in effects.nonzero(as_tuple=True))
        code = (number * codes.length + position) * codes.width + columns[column]
        parts.append((index[row], code, as_array(effects[effects != 0])))
    return tuple(np.concatenate(both) for both in zip(*parts, strict=True))
