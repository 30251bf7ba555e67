"""Questions asked with a model, prompts and a metric instead of a task: what the methods of `CircuitGraph`
call.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from emocircuits.artifacts.answers import Faithfulness
from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.attribution.attribute import Prompts, paired_prompts
from emocircuits.circuits.faithfulness import faithfulness
from emocircuits.circuits.verify import verify
from emocircuits.errors import UserError
from emocircuits.interventions.ablate import ABLATIONS
from emocircuits.passes.metric import Metric
from emocircuits.passes.prompt_pairs import DEFAULT_MAX_TOKENS, PromptPairs
from emocircuits.passes.task import Task

Given = tuple[Any, Prompts | None, Prompts | None, Metric | None]
"""A model, clean and corrupt prompts and a metric; or a task and three times None."""


def verified_circuit(
    circuit: CircuitGraph,
    given: Given,
    saes: Mapping[str, Any] | None,
    budget: int | None,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> CircuitGraph:
    """See `CircuitGraph.verify`."""
    model, clean, corrupt, metric = given
    if isinstance(model, Task):
        return verify(circuit, model, budget=budget)
    prompts = paired_prompts(clean, corrupt)
    return verify(circuit, _task(model, prompts, metric, saes, max_tokens), budget=budget)


def circuit_faithfulness(
    circuit: CircuitGraph,
    given: Given,
    saes: Mapping[str, Any] | None,
    ablation: str,
    errors: str,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Faithfulness:
    """See `CircuitGraph.faithfulness`."""
    model, clean, corrupt, metric = given
    if isinstance(model, Task):
        return faithfulness(circuit, model, ablation=ablation, errors=errors)
    prompts, mean_over = _prompts(clean, corrupt, ablation)
    task = _task(model, prompts, metric, saes, max_tokens)
    return faithfulness(circuit, task, ablation=ablation, errors=errors, mean_over=mean_over)


def _task(
    model: Any, prompts: PromptPairs, metric: Metric | None, saes: Mapping[str, Any] | None, max_tokens: int
) -> Task:
    if metric is None:
        raise UserError("no metric", expected="a function of the logits, or a Task")
    return Task(model, prompts, metric, saes or {}, max_tokens)


def _prompts(
    clean: Prompts | None, corrupt: Prompts | None, ablation: str
) -> tuple[PromptPairs, PromptPairs | None]:
    """The prompts as pairs, and what `mean` averages over where that is something else: ablations that do
    not read the other prompts need no partner.
    """
    if clean is None:
        raise UserError("no clean prompts", expected="token ids (prompt, pos)")
    card = ABLATIONS.get(ablation)
    if corrupt is None:
        if card.needs_other or card.needs_mean:
            raise UserError(
                f"no corrupt prompts for {ablation} ablation",
                expected="token ids (prompt, pos)",
                cure="zero ablation needs none",
            )
        return PromptPairs.of(clean, clean), None
    paired = not isinstance(clean, Tensor) or not isinstance(corrupt, Tensor) or clean.shape == corrupt.shape
    if card.needs_other or paired:
        return PromptPairs.of(clean, corrupt), None
    return PromptPairs.of(clean, clean), PromptPairs.of(corrupt, corrupt)
