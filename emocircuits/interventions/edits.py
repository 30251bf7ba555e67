"""Edits of a running model, as values: what happens to one node at which positions. `intervene` carries them
out.

    clamp(node, value)       the node holds this value
    scale(node, factor)      factor times what it holds
    add(node, amount)        so much more than it holds
    ablate(node, to)         zero, its mean over reference prompts, or its values on them ("resample")
    freeze(node, values)     these values, one per prompt and position (`node_values` reads them)

What a node holds: an SAE feature its activation (a number), an error node a vector of the stream, a head
`a1.h0` its output before W_O (`hook_z`), a head's slot `a1.h0<q>` its query (or key, value), an MLP `m1` what
it adds to the stream.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.errors import UserError, unknown
from emocircuits.interventions.ablate import ABLATIONS
from emocircuits.interventions.positions import Positions, check_positions, covered
from emocircuits.names import NodeId, parse_node
from emocircuits.sae.dictionary import Dictionary

EDIT_KINDS = ("clamp", "scale", "add", "ablate", "freeze")
Value = Float[Tensor, "prompt pos *width"]
"""What a node holds: (prompt, pos) for a feature, (prompt, pos, width) for all others."""


@dataclass(frozen=True, eq=False)
class Edit:
    """One edit; made by the functions of this module.

    Attributes:
        node: node id, over all positions.
        kind: one of `EDIT_KINDS`.
        value: number, vector, values `(prompt, pos, …)`, or the name of a baseline.
        positions: None or "all"; "generated"; a slice such as `slice(12, None)`; or a list of positions.
    """

    node: str
    kind: str
    value: Any
    positions: Positions = None

    def __post_init__(self) -> None:
        node = parse_node(self.node)
        if node.position is not None:
            raise UserError(
                f"an edit of {self.node}",
                expected="a node over all positions",
                cure="give `positions` instead",
            )
        if node.kind not in ("feature", "error", "component") or self.node in ("embed", "pos"):
            raise UserError(
                f"an edit of {self.node}",
                expected="an SAE feature, an error node, a head, a head's slot or an MLP",
            )
        check_positions(self.positions)
        if self.kind not in EDIT_KINDS:
            raise unknown("kind of edit", self.kind, EDIT_KINDS)
        if self.kind == "ablate":
            ABLATIONS.get(str(self.value))
        numbers = () if self.kind == "ablate" else torch.as_tensor(self.value).flatten()
        if self.kind != "ablate" and not bool(torch.isfinite(numbers).all()):
            raise UserError(f"the value of {self} is NaN or infinite", expected="finite numbers")

    @property
    def nothing(self) -> bool:
        """Whether it changes nothing by its own account."""
        neutral = {"scale": 1.0, "add": 0.0}.get(self.kind)
        return neutral is not None and bool((torch.as_tensor(self.value) == neutral).all())

    def applied(
        self, live: Value, start: int, reference: Mapping[str, Value], prompt: int | None = None
    ) -> Value:
        """What the node holds afterwards.

        Args:
            live: what it holds, at the positions from `start` on.
            start: position of the first of them.
            reference: values on the reference prompts, for ablations.
            prompt: tokens of the prompt, where more are generated after them; None: all of this pass.

        Raises:
            UserError: values of another shape.
        """
        mask = covered(
            self.positions, start, live.shape[1], start + live.shape[1] if prompt is None else prompt
        )
        if self.kind == "scale":
            new = live * self._fitting(live)
        elif self.kind == "add":
            new = live + self._fitting(live)
        elif self.kind == "clamp":
            new = self._fitting(live).expand_as(live)
        elif self.kind == "freeze":
            new, known = self._at(self.value, live, start)
            mask = mask & known
        else:
            new, known = self._ablated(live, start, reference)
            mask = mask & known
        return torch.where(mask.to(live.device).view(1, -1, *[1] * (live.ndim - 2)), new, live)

    @property
    def needs_reference(self) -> bool:
        """Whether it reads values on reference prompts."""
        card = ABLATIONS.get(str(self.value)) if self.kind == "ablate" else None
        return card is not None and (card.needs_other or card.needs_mean)

    def _ablated(self, live: Value, start: int, reference: Mapping[str, Value]) -> tuple[Tensor, Tensor]:
        """What an ablation sets the node to at the positions of a pass, and at which of them."""
        card = ABLATIONS.get(str(self.value))
        other, known = live, torch.ones(live.shape[1], dtype=torch.bool)
        if card.needs_other:
            other, known = self._at(reference[self.node], live, start)
        mean = reference[self.node].mean((0, 1), keepdim=True).to(live) if card.needs_mean else None
        return card.value(other, mean).expand_as(live), known

    def _fitting(self, live: Value) -> Tensor:
        value = torch.as_tensor(self.value).to(live)
        if value.ndim > live.ndim - 2 or (value.ndim and value.shape != live.shape[2:]):
            raise UserError(
                f"the value of {self} has shape {tuple(value.shape)}",
                expected="a number" + ("" if live.ndim == 2 else f" or a vector ({live.shape[-1]},)"),
                cure="use freeze for values per prompt and position",
            )
        return value

    def _at(self, values: Tensor, live: Value, start: int) -> tuple[Tensor, Tensor]:
        """Given values at the positions of a pass, and which of them are given."""
        values = torch.as_tensor(values)
        if (
            values.ndim != live.ndim
            or values.shape[2:] != live.shape[2:]
            or len(values) not in (1, len(live))
        ):
            raise UserError(
                f"the values of {self} have shape {tuple(values.shape)}",
                expected=f"({len(live)} or 1, pos{''.join(f', {size}' for size in live.shape[2:])})",
            )
        here = torch.arange(start, start + live.shape[1])
        known = here < values.shape[1]
        new = values[:, here.clamp(max=values.shape[1] - 1).to(values.device)].to(live)
        return new.expand_as(live), known

    def __repr__(self) -> str:
        is_tensor = isinstance(self.value, Tensor)
        value = f" {tuple(self.value.shape)}" if is_tensor and self.value.ndim else f" {self.value}"
        if self.kind == "freeze" and not is_tensor:
            value = ""
        where = "" if self.positions in (None, "all") else f" at {self.positions}"
        return f"{self.kind} {self.node}{value}{where}"


def clamp(node: str, value: float | Tensor, positions: Positions = None) -> Edit:
    """The node holds `value`: a number for a feature, a number or a vector for others."""
    return Edit(node, "clamp", value, positions)


def scale(node: str, factor: float, positions: Positions = None) -> Edit:
    """The node holds `factor` times what it holds; 1 changes nothing."""
    return Edit(node, "scale", factor, positions)


def add(node: str, amount: float | Tensor, positions: Positions = None) -> Edit:
    """The node holds so much more; an amount for a feature, a vector for others."""
    return Edit(node, "add", amount, positions)


def ablate(node: str, to: str = "zero", positions: Positions = None) -> Edit:
    """The node holds nothing (`zero`), its mean over reference prompts and positions (`mean`), or its value
    on the reference prompt of the same row (`resample`).
    """
    return Edit(node, "ablate", to, positions)


def freeze(node: str, values: Tensor, positions: Positions = None) -> Edit:
    """The node holds given values `(prompt or 1, pos, …)`; after their last position it runs freely."""
    return Edit(node, "freeze", values, positions)


@dataclass(frozen=True)
class Place:
    """Where a node is edited.

    Attributes:
        node: its id.
        hook: hook name.
        kind: `feature`, `error`, `head` or `whole`.
        index: feature or head.
    """

    node: str
    hook: str
    kind: str
    index: int = -1

    def read(self, x: Tensor, split: tuple[Tensor, Tensor] | None) -> Value:
        """What the node holds; `split` is (features, error) at a site with a dictionary."""
        if self.kind == "feature":
            return split[0][..., self.index]
        if self.kind == "error":
            return split[1]
        return x[:, :, self.index] if self.kind == "head" else x

    def write(self, x: Tensor, before: Value, after: Value, dictionary: Dictionary | None) -> Tensor:
        """The hook's value when the node holds `after` instead of `before`."""
        if self.kind == "feature":
            return x + ((after - before)[..., None] * dictionary.decoder[self.index]).to(x.dtype)
        if self.kind == "error":
            return x + (after - before).to(x.dtype)
        if self.kind == "head":
            heads = torch.arange(x.shape[2], device=x.device)[:, None] == self.index
            return torch.where(heads, after[:, :, None], x)
        return after


def place_of(node: str, dictionaries: Mapping[str, Dictionary], model: Any) -> Place:
    """Where a node is edited.

    Raises:
        UserError: a site without SAE, a feature the SAE does not have, a block or head the model does not
            have.
    """
    parts = parse_node(node)
    if parts.kind in ("feature", "error"):
        if parts.site not in dictionaries:
            raise UserError(f"no SAE for the site of {node}", expected=f"saes with {parts.site}")
        width = dictionaries[parts.site].d_sae
        if parts.feature is not None and parts.feature >= width:
            raise UserError(f"the node {node} lies outside its SAE", expected=f"a feature below {width}")
        return Place(node, parts.site, parts.kind, -1 if parts.feature is None else parts.feature)
    return _component(node, parts, model)


def _component(node: str, parts: NodeId, model: Any) -> Place:
    if parts.layer is None or parts.layer >= model.cfg.n_layers:
        raise UserError(f"the model has no {node}", expected=f"a block below {model.cfg.n_layers}")
    if node.startswith("m"):
        return Place(node, f"blocks.{parts.layer}.hook_mlp_out", "whole")
    head, slot = node.partition("<")[::2]
    index = int(head.rpartition("h")[2])
    shared = getattr(model.cfg, "n_key_value_heads", None) or model.cfg.n_heads
    count = shared if slot in ("k>", "v>") else model.cfg.n_heads
    if index >= count:
        raise UserError(f"the model has no {node}", expected=f"a head below {count}")
    return Place(node, f"blocks.{parts.layer}.attn.hook_{slot[0] if slot else 'z'}", "head", index)
