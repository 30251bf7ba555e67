"""Parts of a stage side by side: one behaviour or direction per thread, each with a replica of the model."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch

from emocircuits.models.replicas import replicas
from emocircuits.progress import track
from emocircuits.ranks import ranks
from emocircuits.runs.run import Run
from emocircuits.threads import side_by_side

Item, Result = TypeVar("Item"), TypeVar("Result")


def for_each(
    run: Run, work: Callable[[Run, Item], Result], items: Sequence[Item], what: str = ""
) -> list[Result]:
    """`work(run, item)` for every item, in their order.

    On a processor so many items as torch has threads run at once, and share these threads evenly. Elsewhere,
    and in a job of several ranks, which meet in the middle of the work, one item runs after the other.

    Args:
        run: the run; `work` gets it or a copy of it that shares files and artifacts, but not the model, so
            that hooks of one item are not those of another.
        work: what is done with an item.
        items: they do not depend on each other.
        what: text of a progress bar over the items; without it there is none.
    """
    count = min(torch.get_num_threads(), len(items)) if ranks().alone else 1
    workers = [run]
    if count > 1 and torch.device(run.recipe.device).type == "cpu":
        assert run.saes and run.directions  # read once, before several threads ask for them
        workers = [_copy(run, bridge) for bridge in replicas(run.model.bridge, count)]
    results = side_by_side(work, items, workers)
    return list(track(results, what, total=len(items)) if what else results)


def _copy(run: Run, bridge: object) -> Run:
    model = replace(run.model, bridge=bridge, tokenizer=copy.deepcopy(run.model.tokenizer))
    return run.with_model(model)
