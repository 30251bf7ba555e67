"""What an attribution says an edit will do, next to what it does.

A node's effect is what moving it from its corrupt to its clean value does to the metric. An edit moves it
some other way, which counts as the share of that move it is most like:

    share     = < edited - unedited , clean - corrupt > / < clean - corrupt , clean - corrupt >    per prompt
    predicted = sum over edited nodes of  effect * share

Ablating a feature in the clean run to its corrupt value has share -1, doubling its clean - corrupt part in
the corrupt run share 2. The prediction is linear and knows no interaction: it is off where the metric bends,
where an edit moves a node along other positions than the prompts do, and, for several edits, where one lies
on the way of another.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.errors import UserError
from emocircuits.interventions.edits import Edit
from emocircuits.interventions.intervene import intervene, node_values
from emocircuits.numerics import bootstrap_interval
from emocircuits.passes.metric import run_metric
from emocircuits.passes.task import Task

RUNS, TOGETHER = ("clean", "corrupt"), "all together"


@torch.no_grad()
def predicted_effect(
    source: CircuitGraph | AttributionResult, edits: Sequence[Edit], task: Task, *, run: str = "clean"
) -> pd.DataFrame:
    """Predicted and real effect of edits on the metric, each alone and all together.

    Args:
        source: a circuit or an attribution result; effects are means over the prompts it was found on.
        edits: what is to happen; `ablate(…, "mean")` and `ablate(…, "resample")` take the prompts of the
            other run.
        task: the prompts, the metric, and SAEs where features or errors are edited.
        run: which prompts are run under the edits, `clean` or `corrupt`.

    Returns:
        One row per edit and, for several, one for all together: edit, effect (of the node), share (mean over
        prompts), predicted, real, ci_low, ci_high (of the real one, over prompts).

    Raises:
        UserError: no edit, an edited node that the source does not have or that is the same on clean and
            corrupt prompts.
    """
    if run not in RUNS:
        raise UserError(f"run '{run}'", expected=" or ".join(RUNS))
    if not edits:
        raise UserError("no edit was given", expected="a list such as [scale('feature/…', 0.0)]")
    effects, model, saes = _effects(source, edits), task.model, task.saes
    shares: list[list[Tensor]] = [[] for _ in edits]
    reals: list[list[Tensor]] = [[] for _ in range(len(edits) + 1)]
    for batch in task.batches():
        sides = (batch.clean, batch.corrupt)
        here, other = sides if run == "clean" else sides[::-1]
        nodes = list(dict.fromkeys(edit.node for edit in edits))
        on_clean, on_corrupt = (node_values(model, tokens, nodes, saes) for tokens in sides)
        plain = run_metric(model, here, task.metric, batch.index)
        live, reference = (on_clean, on_corrupt) if run == "clean" else (on_corrupt, on_clean)
        for place, edit in enumerate(edits):
            moved = edit.applied(live[edit.node], 0, reference) - live[edit.node]
            shares[place].append(_share(moved, on_clean[edit.node] - on_corrupt[edit.node]))
        for place, some in enumerate([*([edit] for edit in edits), list(edits)]):
            with intervene(model, some, saes=saes, reference=other, must_change=False):
                reals[place].append(run_metric(model, here, task.metric, batch.index) - plain)
    mean_share = [_known_mean(torch.cat(parts), edit) for parts, edit in zip(shares, edits, strict=True)]
    predicted = [effect * share for effect, share in zip(effects, mean_share, strict=True)]
    rows = list(zip(map(repr, edits), effects, mean_share, predicted, strict=True))
    if len(edits) > 1:
        rows.append((TOGETHER, np.nan, np.nan, float(np.sum(predicted))))
    table = pd.DataFrame(rows, columns=["edit", "effect", "share", "predicted"])
    measured = np.stack([torch.cat(parts).double().numpy(force=True) for parts in reals[: len(rows)]], axis=1)
    low, high = bootstrap_interval(measured)
    return table.assign(real=measured.mean(0), ci_low=low, ci_high=high)


def _effects(source: CircuitGraph | AttributionResult, edits: Sequence[Edit]) -> list[float]:
    if isinstance(source, CircuitGraph):
        known = {node.id: node.effect for node in source.nodes}
    else:
        known = dict(zip(source.nodes, source.effects.mean(0).tolist(), strict=True))
    missing = next((edit.node for edit in edits if known.get(edit.node) is None), None)
    if missing is not None:
        raise UserError(
            f"no effect is known of {missing}",
            expected="nodes of the circuit or result",
            cure="predict from the attribution result, which has all nodes",
        )
    return [float(known[edit.node]) for edit in edits]


def _share(
    moved: Float[Tensor, "prompt pos *width"], change: Float[Tensor, "prompt pos *width"]
) -> Float[Tensor, "prompt"]:
    moved, change = moved.flatten(1).double(), change.flatten(1).double()
    return (moved * change).sum(1) / change.square().sum(1)  # NaN where the prompts do not move the node


def _known_mean(shares: Float[Tensor, "prompt"], edit: Edit) -> float:
    """A prompt on which clean and corrupt agree about the node says nothing, and its effect there is none."""
    known = torch.isfinite(shares)
    if not bool(known.any()):
        raise UserError(
            f"{edit.node} is the same on the clean and the corrupt prompts",
            expected="a node that differs",
            cure="no effect is known of it; run the edit with interventions.intervene",
        )
    return float(torch.where(known, shares, torch.zeros_like(shares)).mean())
