"""One call for every attribution: what moves a metric from its value on corrupt prompts to its value on clean
ones?
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Int
from torch import Tensor

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.artifacts.push import Push
from emocircuits.attribution.methods.card import MAX_FEATURES, METHODS, NODES, Request, with_reference
from emocircuits.errors import UserError, unknown
from emocircuits.interventions.ablate import ABLATIONS
from emocircuits.passes.metric import Metric
from emocircuits.passes.prompt_pairs import DEFAULT_MAX_TOKENS, PromptPairs, Reference
from emocircuits.passes.task import Task

Prompts = Int[Tensor, "..."] | Sequence[Sequence[int] | Int[Tensor, "pos"]]
"""Token ids `(prompt, pos)`, or one sequence of ids per prompt where lengths differ."""


def attribute(
    model: Any,
    clean: Prompts | None = None,
    corrupt: Prompts | None = None,
    metric: Metric | None = None,
    *,
    nodes: str = "features",
    edges: bool = True,
    method: str = "attribution_patching",
    saes: Mapping[str, Any] | None = None,
    budget: int | None = None,
    baseline: str | None = None,
    push: Push | None = None,
    positions: bool = False,
    steps: int | None = None,
    max_features: int = MAX_FEATURES,
    behaviour: str = "",
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> AttributionResult:
    """Effect of every node, and of the edges between nodes, on a metric.

    Positive means that the clean value, put into the corrupt run, raises the metric; gradients are taken on
    the corrupt side (`conventions` of the result says where exactly). With a `baseline` nodes are compared
    with that instead, in the clean run.

    Args:
        model: a `Task`, which says all but the keywords; or any TransformerLens object (`TransformerBridge`,
            `HookedTransformer`) or loaded model, which is left as it was.
        clean, corrupt: token ids `(prompt, pos)`, pairs row by row, or one sequence per prompt where lengths
            differ. With a `baseline` the corrupt prompts are what it is taken from and may have any length
            and number; None takes it from the clean prompts.
        metric: logits `(prompt, pos, d_vocab)` -> one value per prompt; one that can take a second argument
            is given the indices of the prompts in the batch.
        nodes: `features` (SAE features and errors), `components` (`embed`, `pos`, `a0.h1`, `m0`), or `mixed`
            (features and errors of the given sites among all components).
        edges: whether edges are wanted, too.
        method: `attribution_patching`, `integrated_gradients`, `checked` (one of the two, by real patches),
            `atp_star`, `relp`, `steering`, `verified` or `exact`.
        saes: site -> sae-lens SAE, for features.
        budget: passes that `verified` may spend.
        baseline: `mean`, `zero` or `resample`, for prompts without an aligned partner
            (`graphs.reference_values`).
        push: the direction that `steering` adds to the corrupt prompts; by default the mean difference
            between clean and corrupt streams, before the first block or (features) before the block of the
            first SAE.
        positions: one node per token position instead of the sum over positions; features alone.
        steps: midpoints of `integrated_gradients` (over inputs for components, over each site's activations
            for features) and of `steering` (over the strength).
        max_features: most features that edges are drawn among, the strongest ones.
        behaviour: name stored in the result.
        max_tokens: tokens per pass.

    Returns:
        Effects per prompt; `node_table()` and `edge_table()` have means and intervals, `passes` what was
        spent.

    Raises:
        UserError: an unknown method or kind of node, missing SAEs, prompts that do not fit, a metric that is
            not one differentiable value per prompt, or a budget that is too small.
    """
    if nodes not in NODES:
        raise unknown("kind of nodes", nodes, NODES)
    card = METHODS.get(method)
    if isinstance(model, Task):
        strange = [
            name
            for name, value in (("clean", clean), ("corrupt", corrupt), ("metric", metric), ("saes", saes))
            if value is not None
        ]
        if strange or baseline is not None:
            raise UserError(
                f"a task together with {', '.join(strange) or 'baseline'}",
                expected="either a task or a model with prompts and a metric",
            )
        task = model
    else:
        prompts = paired_prompts(clean, corrupt, baseline)
        if metric is None:
            raise UserError("no metric", expected="a function of the logits, or a Task")
        task = Task(model, prompts, metric, saes or {}, max_tokens, behaviour)
    if nodes != "components" and not task.saes:
        raise UserError(
            f"nodes='{nodes}' without SAEs",
            expected="saes: a mapping from site to SAE",
            cure="or nodes='components'",
        )
    request = Request(task, nodes, edges, positions, steps, max_features, budget, push)
    card.refuse(request)
    return with_reference(card.run(request), task)


def paired_prompts(
    clean: Prompts | None, corrupt: Prompts | None, baseline: str | None = None
) -> PromptPairs:
    """Prompts as pairs; with a baseline, compared with that instead of a partner.

    Raises:
        UserError: no prompts, sides that do not fit, or an unknown baseline.
    """
    if clean is None:
        raise UserError("no clean prompts", expected="token ids (prompt, pos)")
    if baseline is None:
        if corrupt is None:
            raise UserError(
                "no corrupt prompts",
                expected="token ids (prompt, pos) of as many tokens as the clean ones",
                cure=f"or a baseline that needs no pair: {', '.join(ABLATIONS.names())}",
            )
        return PromptPairs.of(clean, corrupt)
    if baseline not in ABLATIONS:
        raise unknown("baseline", baseline, ABLATIONS.names())
    reference = clean if corrupt is None else corrupt
    if not isinstance(reference, Tensor) or reference.ndim != 2 or 0 in reference.shape:
        shape = tuple(reference.shape) if isinstance(reference, Tensor) else f"{len(reference)} sequences"
        raise UserError(f"reference prompts of shape {shape}", expected="token ids (prompt, pos), not empty")
    return PromptPairs.without_partner(clean, Reference(baseline, reference))
