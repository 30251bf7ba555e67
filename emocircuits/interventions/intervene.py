"""Carry out a list of edits while the model runs, freely or with parts of it held to its unedited run.

*Free*: everything after an edit is computed again. *Constrained* (`hold`): attention patterns, norm scales
and, if wanted, MLP outputs stay what they are on given prompts without the edits, so that only the direct
paths of an attribution graph carry the change (as circuit-tracer's constrained interventions do); with all
three held the residual stream answers linearly.

Edits at one site are made at once, several edits of one node one after the other. Works on batches, and token
by token with a key-value cache; held parts concern the positions of the given prompts, tokens generated
after them run freely.
"""

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from emocircuits.errors import Failure, UserError, unknown
from emocircuits.interventions.edits import Edit, Place, Value, place_of
from emocircuits.interventions.positions import Counter, counted
from emocircuits.passes.anatomy import unsplit
from emocircuits.passes.edit import edited
from emocircuits.passes.hooks import recorded
from emocircuits.sae.dictionary import Dictionary, open_dictionaries

HOLDS, CONSTRAINED = ("patterns", "norms", "mlps"), ("patterns", "norms")
NORMS = ("ln1", "ln1_post", "ln2", "ln2_post")


@contextmanager
def intervene(
    model: Any,
    edits: Sequence[Edit],
    *,
    saes: Mapping[str, Any] | None = None,
    reference: Int[Tensor, "prompt pos"] | None = None,
    hold: Sequence[str] = (),
    tokens: Int[Tensor, "prompt pos"] | None = None,
    must_change: bool = True,
) -> Iterator[None]:
    """Makes edits in every forward pass inside the context; afterwards the model is as it was.

    Args:
        model: any TransformerLens object.
        edits: what is to happen (`interventions.edits`).
        saes: site -> SAE, where features or errors are edited.
        reference: prompts whose values `ablate(…, "mean")` and `ablate(…, "resample")` take; the latter row
            by row.
        hold: parts that stay as in the unedited run on `tokens`: any of `patterns`, `norms`, `mlps`;
            `CONSTRAINED` is the first two.
        tokens: the prompts that will be run, where something is held.
        must_change: whether an edit that changes nothing on any pass is an error. Edits that say so
            themselves (scale by 1, add 0) may.

    Raises:
        UserError: no edit, a node the model or the SAEs do not have, values of another shape, nothing to take
            held parts or baselines from.
        Failure: an edit's hook never ran, or the edit changed nothing.
    """
    if not edits:
        raise UserError("no edit was given", expected="a list such as [clamp('feature/…', 3.0)]")
    dictionaries = _needed(model, edits, saes)
    places = {edit.node: place_of(edit.node, dictionaries, model) for edit in edits}
    values = _references(model, edits, saes, reference)
    counters: list[Counter] = []
    held = _held(model, hold, tokens, counters) if hold else {}
    by_hook: dict[str, list[Edit]] = {}
    for edit in edits:
        by_hook.setdefault(places[edit.node].hook, []).append(edit)
    alive: set[int] = set()
    changes: dict[str, Callable[[Tensor], Tensor]] = dict(held)
    for hook, here in by_hook.items():
        change = _change(here, places, dictionaries.get(hook), values, alive, counters)
        before = changes.get(hook)
        changes[hook] = (
            change if before is None else lambda x, before=before, change=change: change(before(x))
        )
    with (
        warnings.catch_warnings(),
        unsplit(model),
        edited(model, changes, what="intervention", must_change=False),
        counted(model, counters),
    ):
        # the bridge leaves Hugging Face's own norm, as it should
        warnings.filterwarnings("ignore", message=".*edited hook_scale.*")
        yield
    dead = [edit for edit in edits if id(edit) not in alive and not edit.nothing]
    if must_change and dead:
        raise Failure(
            f"the edit '{dead[0]}' ran and changed nothing",
            cure="check its positions and whether the node is active on these prompts, "
            "or pass must_change=False",
        )


def node_values(
    model: Any, tokens: Int[Tensor, "prompt pos"], nodes: Sequence[str], saes: Mapping[str, Any] | None = None
) -> dict[str, Value]:
    """What nodes hold on some prompts: `(prompt, pos)` for features, `(prompt, pos, width)` for others.

    Args:
        model: any TransformerLens object.
        tokens: prompts.
        nodes: node ids.
        saes: site -> SAE, where features or errors are read.
    """
    edits = [Edit(node, "scale", 1.0) for node in nodes]
    dictionaries = _needed(model, edits, saes)
    places = [place_of(node, dictionaries, model) for node in nodes]
    seen = _recorded(model, {place.hook for place in places}, tokens)
    splits = {hook: _split(seen[hook], dictionaries[hook]) for hook in dictionaries}
    return {place.node: place.read(seen[place.hook], splits.get(place.hook)) for place in places}


def _needed(model: Any, edits: Sequence[Edit], saes: Mapping[str, Any] | None) -> dict[str, Dictionary]:
    """The dictionaries of the edited sites."""
    sites = dict.fromkeys(
        edit.node.split("/")[1] for edit in edits if edit.node.startswith(("feature/", "error/"))
    )
    given = {site: saes[site] for site in sites if site in (saes or {})}
    return open_dictionaries(given, getattr(model.cfg, "d_model", None)) if given else {}


def _references(
    model: Any, edits: Sequence[Edit], saes: Mapping[str, Any] | None, reference: Tensor | None
) -> dict[str, Value]:
    nodes = list(dict.fromkeys(edit.node for edit in edits if edit.needs_reference))
    if nodes and reference is None:
        raise UserError(
            f"nothing to take the baseline of {nodes[0]} from",
            expected="reference: prompts (prompt, pos)",
            cure="or ablate to zero",
        )
    return node_values(model, reference, nodes, saes) if nodes else {}


def _change(
    edits: Sequence[Edit],
    places: Mapping[str, Place],
    dictionary: Dictionary | None,
    reference: Mapping[str, Value],
    alive: set[int],
    counters: list[Counter],
) -> Callable[[Tensor], Tensor]:
    """What happens at one hook."""
    counters.append(counter := Counter())

    def change(x: Tensor) -> Tensor:
        start = counter.start(x.shape[1])
        split = None if dictionary is None else _split(x, dictionary)
        before = {node: places[node].read(x, split) for node in dict.fromkeys(edit.node for edit in edits)}
        after = dict(before)
        for edit in edits:
            new = edit.applied(after[edit.node], start, reference, counter.prompt)
            if id(edit) not in alive and not torch.equal(new.detach(), after[edit.node].detach()):
                alive.add(id(edit))
            after[edit.node] = new
        for node, value in after.items():
            x = places[node].write(x, before[node], value, dictionary)
        return x

    return change


def _split(x: Tensor, dictionary: Dictionary) -> tuple[Tensor, Tensor]:
    features = dictionary.encode(x)
    return features, x.to(features.dtype) - dictionary.decode(features)


@torch.no_grad()
def _recorded(
    model: Any, hooks: Collection[str], tokens: Tensor, optional: Collection[str] = ()
) -> dict[str, Tensor]:
    """What hooks hold in one pass; optional ones may be absent."""
    with unsplit(model), recorded(model, hooks, optional=optional) as held:
        model(tokens)
    return held


def _held(
    model: Any, hold: Sequence[str], tokens: Tensor | None, counters: list[Counter]
) -> dict[str, Callable[[Tensor], Tensor]]:
    """Hooks that give parts the values of the unedited run."""
    for name in hold:
        if name not in HOLDS:
            raise unknown("part to hold", name, HOLDS)
    if tokens is None:
        raise UserError(
            f"nothing to hold {' and '.join(hold)} to", expected="tokens: the prompts that will be run"
        )
    layers = range(model.cfg.n_layers)
    patterns = [f"blocks.{layer}.attn.hook_pattern" for layer in layers] if "patterns" in hold else []
    norms = [
        *(f"blocks.{layer}.{norm}.hook_scale" for layer in layers for norm in NORMS),
        "ln_final.hook_scale",
    ]
    others = [
        *(norms if "norms" in hold else ()),
        *(f"blocks.{layer}.hook_mlp_out" for layer in layers if "mlps" in hold),
    ]
    # a model without norms or MLPs has nothing to hold there
    seen = _recorded(model, patterns, tokens, optional=others)
    return {
        name: _hold_pattern(value, counters) if name.endswith("pattern") else _hold_rows(value, counters)
        for name, value in seen.items()
    }


def _hold_rows(value: Tensor, counters: list[Counter]) -> Callable[[Tensor], Tensor]:
    counters.append(counter := Counter())

    def change(x: Tensor) -> Tensor:
        start = counter.start(x.shape[1])
        count = _count(x, value, min(x.shape[1], value.shape[1] - start))
        if count <= 0:
            return x
        kept = value[:, start : start + count].to(x)
        return torch.cat([kept.expand(len(x), *kept.shape[1:]), x[:, count:]], dim=1)

    return change


def _hold_pattern(value: Tensor, counters: list[Counter]) -> Callable[[Tensor], Tensor]:
    counters.append(counter := Counter())

    def change(pattern: Tensor) -> Tensor:
        start = counter.start(pattern.shape[2])
        count = _count(pattern, value, min(pattern.shape[2], value.shape[2] - start))
        if count <= 0:
            return pattern
        keys = min(pattern.shape[3], value.shape[3])
        pattern = pattern.clone()
        pattern[:, :, :count] = 0
        pattern[:, :, :count, :keys] = value[:, :, start : start + count, :keys].to(pattern)
        return pattern

    return change


def _count(x: Tensor, value: Tensor, count: int) -> int:
    if len(value) not in (1, len(x)):
        raise UserError(
            f"{len(x)} prompts run where {len(value)} were given to hold parts to",
            expected="the same prompts",
        )
    return count
