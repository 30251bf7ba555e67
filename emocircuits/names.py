"""Names: sites, node ids, and the axes of shape annotations.

**Sites** are where activations are read; a site is named by its TransformerLens hook, e.g.
`blocks.2.hook_resid_post`.

**Node ids** are text with the kind first, made by `format_node` and read by `parse_node`, each the inverse of
the other.

    feature/blocks.2.hook_resid_post/123        an SAE feature, over all positions
    feature/blocks.2.hook_resid_post/123/p17    the same feature at position 17
    error/blocks.2.hook_resid_post[/p17]        what the SAE of that site leaves unexplained
    token/p5                                    the token at a position of the prompt
    direction/desperate                         a direction that is pushed along
    logits                                      the metric, which reads the logits
    target/logit_diff                           a metric by name, where there are several
    embed  pos  m2  a2.h3  a2.h3<q>  [/p17]     components and head inputs, as the field writes them

No id holds a colon, so ids survive formats that give colons a meaning (DOT ports, XML prefixes).

**Axes** of shape annotations:

    prompt   one prompt (or prompt pair)        pos      token position, 0 is the first token
    d_model  residual stream                    d_in     input of an SAE (= d_model here)
    d_sae    dictionary size of an SAE          feature  an SAE latent
    d_vocab  vocabulary                         site     a hook point
    emotion  one of the emotions asked for      story    one labelled text
    row      one token of one text in an activation store (no padding)
    node, edge  entries of an attribution graph
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from emocircuits.errors import UserError, unknown

_SITE = re.compile(r"^blocks\.(\d+)\.hook_(resid_post|resid_pre|resid_mid|attn_out|mlp_out)$")


def residual_site(layer: int) -> str:
    """The residual stream after block `layer` (0 is the first block)."""
    return f"blocks.{layer}.hook_resid_post"


def sites_of(layers: Sequence[int | str] | None, sites: Sequence[str]) -> tuple[str, ...]:
    """Some of the sites, by the number of their layer or by their name; all where none is asked for.

    Args:
        layers: numbers of layers, or sites.
        sites: all there are.

    Raises:
        UserError: one that is not among them.
    """
    if layers is None:
        return tuple(sites)
    wanted = [residual_site(layer) if isinstance(layer, int) else layer for layer in layers]
    for site in wanted:
        if site not in sites:
            raise unknown("site", site, sites)
    return tuple(wanted)


def depth_of(site: str, n_layers: int) -> float:
    """How deep a site lies in a model of so many blocks: after block l of n at (l + 1) / n."""
    return (layer_of(site) + 1) / n_layers


def chosen_layers(wanted: Sequence[float | int], n_layers: int) -> tuple[int, ...]:
    """Numbers of blocks, ascending, as a recipe names them.

    Args:
        wanted: numbers of blocks from 0; what lies between 0 and 1 is a fraction of depth and means the first
            block that ends there or after. Nothing means all.
        n_layers: blocks of the model.

    Raises:
        UserError: a number that is none of a block.
    """
    if not wanted:
        return tuple(range(n_layers))
    found = set()
    for value in wanted:
        layer = ceil(value * n_layers - 1e-9) - 1 if 0 < value < 1 else value
        if layer != int(layer) or not 0 <= layer < n_layers:
            raise UserError(
                f"layers names {value:g}",
                expected=f"blocks 0 to {n_layers - 1}, or fractions of depth between 0 and 1",
                cure="set layers to blocks of this model, or leave it out for all",
            )
        found.add(int(layer))
    return tuple(sorted(found))


def layer_of(site: str) -> int:
    """The block a site belongs to.

    Raises:
        UserError: the text is not the name of a site.
    """
    return int(_match(site)[1])


def is_stream(site: str) -> bool:
    """Whether a hook holds the residual stream between blocks, so that a pass may stop or start there."""
    return site.endswith(("hook_resid_post", "hook_resid_pre"))


def blocks_before(site: str) -> int:
    """How many blocks run before the stream of a site.

    Raises:
        UserError: a site that is not the residual stream between blocks.
    """
    if not is_stream(site):
        raise UserError(
            f"a pass cannot stop or start at {site!r}",
            expected="the stream between blocks: blocks.<n>.hook_resid_pre or blocks.<n>.hook_resid_post",
        )
    return layer_of(site) + int(site.endswith("hook_resid_post"))


def short_site(site: str) -> str:
    """A short form for tables and labels, e.g. `resid_post.2`."""
    found = _match(site)
    return f"{found[2]}.{found[1]}"


def _match(site: str) -> re.Match:
    found = _SITE.match(site)
    if found is None:
        raise UserError(f"'{site}' is not a site", expected="a hook name such as blocks.2.hook_resid_post")
    return found


KINDS = ("feature", "error", "token", "direction", "target", "component")
TARGET = "logits"

_POSITION = re.compile(r"^p(0|[1-9]\d*)$")
_NUMBER = re.compile(r"^(0|[1-9]\d*)$")
_METRIC = re.compile(r"^[A-Za-z0-9_.-]+$")
_COMPONENT = re.compile(r"^(?:embed|pos|m(0|[1-9]\d*)|a(0|[1-9]\d*)\.h(?:0|[1-9]\d*)(?:<[qkv]>)?)$")


@dataclass(frozen=True, order=True)
class NodeId:
    """The parts of a node id.

    Attributes:
        kind: one of `KINDS`.
        site: hook name of a feature or error node.
        feature: index of the SAE feature.
        position: token position, or None for a node over all positions.
        name: the metric of a target, the direction, or the component (`embed`, `pos`, `m2`, `a2.h3`,
            `a2.h3<q>`).
    """

    kind: str
    site: str | None = None
    feature: int | None = None
    position: int | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        needed = {
            "feature": ("site", "feature"),
            "error": ("site",),
            "token": ("position",),
            "direction": ("name",),
            "target": ("name",),
            "component": ("name",),
        }.get(self.kind)
        if needed is None:
            raise UserError(f"unknown node kind '{self.kind}'", expected=", ".join(KINDS))
        optional = () if self.kind in ("token", "direction", "target") else ("position",)
        for field in ("site", "feature", "position", "name"):
            given = getattr(self, field) is not None
            if given != (field in needed) and not (given and field in optional):
                raise UserError(f"a {self.kind} node {'has no' if given else 'needs a'} {field}")
        for field in ("feature", "position"):
            value = getattr(self, field)
            if value is not None:
                if isinstance(value, bool) or int(value) != value or value < 0:
                    raise UserError(
                        f"{field} {value!r} of a {self.kind} node", expected="a whole number from 0"
                    )
                object.__setattr__(self, field, int(value))
        if self.site is not None:
            layer_of(self.site)
        pattern = {"target": _METRIC, "direction": _METRIC, "component": _COMPONENT}.get(self.kind)
        if pattern is not None and not pattern.match(str(self.name)):
            raise UserError(
                f"{self.kind} name '{self.name}'",
                expected="embed, pos, m2, a2.h3 or a2.h3<q>"
                if self.kind == "component"
                else "letters, digits, '_', '.' or '-'",
            )

    @property
    def layer(self) -> int | None:
        """The block the node belongs to; None for tokens, targets and embeddings."""
        if self.site is not None:
            return layer_of(self.site)
        found = _COMPONENT.match(self.name) if self.kind == "component" else None
        number = (found[1] or found[2]) if found else None
        return int(number) if number is not None else None

    @property
    def slot(self) -> str | None:
        """`q`, `k` or `v` of a head's input; None for everything else."""
        return str(self.name)[-2] if self.is_slot else None

    @property
    def is_slot(self) -> bool:
        """Whether it is an input of a head, such as `a2.h3<q>`."""
        return self.kind == "component" and str(self.name).endswith(">")

    @property
    def owner(self) -> "NodeId":
        """The head that an input belongs to; every other node itself."""
        return NodeId("component", name=str(self.name)[:-3]) if self.is_slot else self

    @property
    def head(self) -> int | None:
        """The number of an attention head, or of the head that an input belongs to; None for other nodes."""
        name = str(self.owner.name)
        return int(name.rpartition("h")[2]) if self.kind == "component" and ".h" in name else None

    def at(self, position: int | None) -> "NodeId":
        """The same node at a position (None: over all positions)."""
        return NodeId(self.kind, self.site, self.feature, position, self.name)

    def __str__(self) -> str:
        return format_node(self)


def format_node(node: NodeId) -> str:
    """The text form of a node id."""
    head = {
        "feature": f"feature/{node.site}/{node.feature}",
        "error": f"error/{node.site}",
        "token": "token",
        "direction": f"direction/{node.name}",
        "target": TARGET if node.name == TARGET else f"target/{node.name}",
        "component": f"{node.name}",
    }[node.kind]
    return head if node.position is None else f"{head}/p{node.position}"


def parse_node(text: str) -> NodeId:
    """Reads a node id written by `format_node`.

    Raises:
        UserError: the text is no node id.
    """
    parts = text.split("/")
    position = None
    found = _POSITION.match(parts[-1]) if len(parts) > 1 else None
    if found:
        position, parts = int(found[1]), parts[:-1]
    kind, rest = parts[0], parts[1:]
    if kind == "feature" and len(rest) == 2 and _NUMBER.match(rest[1]):
        return NodeId("feature", site=rest[0], feature=int(rest[1]), position=position)
    if kind == "error" and len(rest) == 1:
        return NodeId("error", site=rest[0], position=position)
    if kind == "token" and not rest and position is not None:
        return NodeId("token", position=position)
    if kind == "target" and len(rest) == 1 and position is None and rest[0] != TARGET:
        return NodeId("target", name=rest[0])
    if kind == "direction" and len(rest) == 1 and position is None:
        return NodeId("direction", name=rest[0])
    if text == TARGET:
        return NodeId("target", name=TARGET)
    if not rest and _COMPONENT.match(kind):
        return NodeId("component", name=kind, position=position)
    raise UserError(
        f"'{text}' is not a node id",
        expected="feature/<site>/<index>[/p<position>], error/<site>[/p<position>], token/p<position>, "
        "direction/<name>, logits, target/<metric> or a component such as m2 or a2.h3<q>",
    )


def nodes_of_slot(slot: str, nodes: Sequence[str], slots: Sequence[str]) -> tuple[str, ...]:
    """The nodes that a slot is read for: none for the logits, for a shared key or value all heads of its
    group.

    Args:
        slot: id of the slot.
        nodes, slots: all ids of the graph.
    """
    asked = parse_node(slot)
    if not asked.is_slot:
        return (slot,) if slot != TARGET else ()
    block, ending = str(asked.name).partition(".")[0], f"<{asked.slot}>"
    heads = [node for node in nodes if node.startswith(f"{block}.h") and not node.endswith(">")]
    shared = [other for other in slots if other.startswith(f"{block}.h") and other.endswith(ending)]
    size = len(heads) // len(shared)
    first = shared.index(slot) * size
    return tuple(heads[first : first + size])
