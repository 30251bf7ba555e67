"""Where a TransformerLens model's parts are: what its heads and MLPs read from the residual stream and write
into it.

Hook names are the same on a `TransformerBridge` and a `HookedTransformer`; what lies between them is not:
norms stand before a part, after it (OLMo 2), on both sides (Gemma 2) or nowhere, attention and MLP stand in
a row or side by side (GPT-NeoX), several query heads share a key. So nothing is assumed: the maps are put
together from the model's own modules and compared with what its hooks hold on a probe, once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from emocircuits.errors import Failure, UserError
from emocircuits.passes.hooks import hook_points, recorded

Map = Callable[[Tensor], Tensor]
QKV = ("q", "k", "v")
PROBE_POSITIONS, TOLERANCE = 8, 1e-3


def _same(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True, eq=False)
class Layer:
    """One block.

    Attributes:
        number: its place, from 0.
        attn_norm: stream -> what queries, keys and values are projected from.
        weights: q, k, v -> (weight, bias) of the projection; keys and values may have fewer heads than
            queries.
        W_O: what a unit of each head's output writes, before `attn_post`.
        b_O: what attention writes besides.
        attn_post: sum of the heads' outputs -> what attention adds to the stream.
        mlp: stream -> what the MLP adds to the stream; None where the block has none.
        mlp_norm: stream -> input of the MLP's own module.
        mlp_module: the module that reads `mlp_norm`'s output.
        parallel: whether the MLP reads the same stream as attention.
    """

    number: int
    attn_norm: Map
    weights: dict[str, tuple[Float[Tensor, "head d_model d_head"], Float[Tensor, "head d_head"] | float]]
    W_O: Float[Tensor, "head d_head d_model"]
    b_O: Float[Tensor, "d_model"] | float
    attn_post: Map
    mlp: Map | None
    mlp_norm: Map
    mlp_module: nn.Module | None
    parallel: bool

    def hook(self, name: str) -> str:
        """Full name of a hook of this block: `hook_z` lives in `attn`, `hook_mlp_out` in the block itself."""
        inside = name in ("hook_q", "hook_k", "hook_v", "hook_z", "hook_pattern", "hook_attn_scores")
        return f"blocks.{self.number}.{'attn.' if inside else ''}{name}"

    @property
    def attn_reads(self) -> str:
        """Hook of the stream that attention reads."""
        return self.hook("hook_resid_pre")

    @property
    def mlp_reads(self) -> str:
        """Hook of the stream that the MLP reads."""
        return self.hook("hook_resid_pre" if self.parallel else "hook_resid_mid")

    def project(self, kind: str, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... head d_head"]:
        """Queries, keys or values of a normed stream."""
        weight, bias = self.weights[kind]
        return torch.einsum("...d,hde->...he", x, weight) + bias

    def heads_out(self, z: Float[Tensor, "... head d_head"]) -> Float[Tensor, "... d_model"]:
        """What attention adds to the stream when its heads' outputs are z."""
        return self.attn_post(torch.einsum("...he,hed->...d", z, self.W_O) + self.b_O)

    def heads_write(
        self,
        z: Float[Tensor, "prompt pos head d_head"],
        change: Float[Tensor, "prompt pos head d_head"],
        out: Float[Tensor, "head prompt pos d_model"],
    ) -> None:
        """Fills `out` with what a change of each head's output alone adds to the stream, to first order where
        a norm follows the heads.
        """
        torch.bmm(change.permute(2, 0, 1, 3).flatten(1, 2).to(out), self.W_O.to(out), out=out.flatten(1, 2))
        if self.attn_post is not _same:
            base = torch.einsum("pthe,hed->ptd", z, self.W_O) + self.b_O
            out.copy_(_forward_derivative(self.attn_post, base.expand_as(out), out))

    def heads_move(
        self, z: Float[Tensor, "prompt pos head d_head"], change: Float[Tensor, "prompt pos head d_head"]
    ) -> Float[Tensor, "prompt pos head d_model"]:
        """What a change of each head's output alone really adds to the stream."""
        written = torch.einsum("pthe,hed->pthd", change, self.W_O)
        if self.attn_post is _same:
            return written
        base = torch.einsum("pthe,hed->ptd", z, self.W_O) + self.b_O
        return self.attn_post(base[:, :, None] + written) - self.attn_post(base)[:, :, None]


@dataclass(frozen=True)
class Arrangement:
    """How the modules of one block are put together.

    Attributes:
        n_heads: heads of q, k and v.
        attn_norm, attn_post: names of the norms before and after attention.
        mlp: names of the norms before and after the MLP; None where there is no MLP.
        parallel: whether the MLP reads the same stream as attention.
        positions: whether the model adds position embeddings.
    """

    n_heads: Mapping[str, int]
    attn_norm: str | None
    attn_post: str | None
    mlp: tuple[str | None, str | None] | None
    parallel: bool
    positions: bool


_ARRANGEMENTS: WeakKeyDictionary[nn.Module, tuple[tuple[tuple[str, type], ...], tuple[Arrangement, ...]]] = (
    WeakKeyDictionary()
)
"""Found once per model, which costs a forward pass; weights are read anew each time."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """All blocks of a model, and the stream around them; found and checked when first asked for.

    Attributes:
        model: the TransformerLens object.
        probe: a few tokens on which the parts are checked.
    """

    model: Any
    probe: Int[Tensor, "1 pos"]

    @property
    def embedding(self) -> str:
        """Hook of the stream before the first block."""
        return "blocks.0.hook_resid_pre"

    @property
    def last(self) -> str:
        """Hook of the stream after the last block."""
        return f"blocks.{self.model.cfg.n_layers - 1}.hook_resid_post"

    @cached_property
    def points(self) -> Mapping[str, HookPoint]:
        """The model's hooks by name (`emocircuits.passes.hooks`)."""
        return hook_points(self.model)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The blocks.

        Raises:
            UserError: a hook is missing, or no arrangement of the model's modules gives what its hooks hold.
        """
        return tuple(
            _layer(self.model.blocks[number], number, arrangement)
            for number, arrangement in enumerate(self._arrangements)
        )

    @property
    def positions(self) -> str | None:
        """Hook of what position embeddings add to the first stream; None for families without."""
        return "hook_pos_embed" if any(one.positions for one in self._arrangements) else None

    @cached_property
    def _arrangements(self) -> tuple[Arrangement, ...]:
        built, known = _build(self.model), _ARRANGEMENTS.get(self.model)
        if known is None or known[0] != built:
            known = _ARRANGEMENTS[self.model] = built, _arrangements(self.model, self.probe)
        return known[1]


def open_anatomy(model: Any, tokens: Int[Tensor, "prompt pos"]) -> Anatomy:
    """The parts of a model.

    Args:
        model: any TransformerLens object; it is left as it was.
        tokens: prompts; the first few positions of the first one are run once when the blocks are asked for.
    """
    return Anatomy(model, tokens[:1, :PROBE_POSITIONS])


def _build(model: Any) -> tuple[tuple[str, type], ...]:
    """What the blocks are made of: as long as it is the same, so is their arrangement."""
    return tuple((name, type(module)) for block in model.blocks for name, module in block._modules.items())


def _arrangements(model: Any, probe: Int[Tensor, "1 pos"]) -> tuple["Arrangement", ...]:
    names = {
        f"blocks.{layer}.{name}"
        for layer in range(model.cfg.n_layers)
        for name in (
            "hook_resid_pre",
            "hook_resid_mid",
            "hook_resid_post",
            "attn.hook_q",
            "attn.hook_k",
            "attn.hook_v",
            "attn.hook_z",
            "hook_attn_out",
            "hook_mlp_out",
        )
    } | {"hook_pos_embed"}
    with torch.no_grad(), unsplit(model), recorded(model, (), optional=sorted(names)) as seen:
        model(probe)
    return tuple(_arrangement(model.blocks[number], number, seen) for number in range(model.cfg.n_layers))


@contextmanager
def unsplit(model: Any) -> Iterator[None]:
    """One input for queries, keys and values inside this context, as the hooks are read here, whatever the
    model's flags.
    """
    flags = ("use_split_qkv_input", "use_attn_in", "use_hook_mlp_in", "use_attn_result")
    kept = {name: getattr(model.cfg, name) for name in flags if getattr(model.cfg, name, False)}
    for name in kept:
        setattr(model.cfg, name, False)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(model.cfg, name, value)


def _arrangement(block: Any, number: int, seen: dict[str, Tensor]) -> Arrangement:
    where = f"blocks.{number}"
    missing = [
        name
        for name in ("hook_resid_pre", "attn.hook_q", "attn.hook_z", "hook_attn_out")
        if f"{where}.{name}" not in seen
    ]
    if missing:
        raise UserError(
            f"the model has no {where}.{missing[0]}",
            expected="a transformer whose attention has heads",
            cure="use nodes='features', which needs the residual stream alone",
        )
    pre, attn_out = seen[f"{where}.hook_resid_pre"], seen[f"{where}.hook_attn_out"]
    attn, z, queries = block.attn, seen[f"{where}.attn.hook_z"], seen[f"{where}.attn.hook_q"]
    n_heads = {kind: seen[f"{where}.attn.hook_{kind}"].shape[-2] for kind in QKV}
    weight, bias = _projection(attn, "q", n_heads["q"], pre)
    attn_norm = _first(
        f"{where}: what its queries are made from",
        [("ln1",), (None,)],
        lambda norm: _close(torch.einsum("...d,hde->...he", _norm(block, norm)(pre), weight) + bias, queries),
        block,
    )[0]
    summed = torch.einsum("pthe,hed->ptd", z, _weight(attn, "W_O", pre)) + _bias(attn, "b_O", pre)
    attn_post = _first(
        f"{where}: what its heads add up to",
        [(None,), ("ln1_post",), ("ln1",)],
        lambda post: _close(_norm(block, post)(summed), attn_out),
        block,
    )[0]
    positions, mid = "hook_pos_embed" in seen, seen.get(f"{where}.hook_resid_mid")
    if f"{where}.hook_mlp_out" not in seen:
        return Arrangement(n_heads, attn_norm, attn_post, None, False, positions)
    mlp_out = seen[f"{where}.hook_mlp_out"]
    both = (
        mid is None
        or not _close(pre + attn_out, mid)
        or not _close(mid + mlp_out, seen[f"{where}.hook_resid_post"])
    )
    mid, parallel = (pre, True) if both else (mid, False)
    pairs = [(norm, post) for norm in ("ln2", "ln1", None) for post in (None, "ln2_post", "ln2")]
    mlp = _first(
        f"{where}: what its MLP reads and writes",
        pairs,
        lambda norm, post: _close(_norm(block, post)(block.mlp(_norm(block, norm)(mid))), mlp_out),
        block,
    )
    return Arrangement(n_heads, attn_norm, attn_post, mlp, parallel, positions)


def _layer(block: Any, number: int, how: Arrangement) -> Layer:
    like = next(value for value in block.parameters() if value.is_floating_point())
    weights = {kind: _projection(block.attn, kind, how.n_heads[kind], like) for kind in QKV}
    outward = _weight(block.attn, "W_O", like), _bias(block.attn, "b_O", like)
    attention = _norm(block, how.attn_norm), weights, *outward, _norm(block, how.attn_post)
    if how.mlp is None:
        return Layer(number, *attention, None, _same, None, False)
    norm, post = (_norm(block, name) for name in how.mlp)
    return Layer(number, *attention, lambda x: post(block.mlp(norm(x))), norm, block.mlp, how.parallel)


def _forward_derivative(function: Map, x: Tensor, change: Tensor) -> Tensor:
    """J(x) change, by the derivatives that a backward pass takes: forward mode would not heed what hooks hold
    constant.
    """
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        out = function(leaf)
        seed = torch.zeros_like(out, requires_grad=True)
        (back,) = torch.autograd.grad(out, leaf, seed, create_graph=True)
        (found,) = torch.autograd.grad(back, seed, change.to(back.dtype))
    return found.detach()


def _norm(block: Any, name: str | None) -> Map:
    """A norm of a block by its name; none hands on what it is given."""
    return _same if name is None else block._modules[name]


def _projection(attn: Any, kind: str, n_heads: int, like: Tensor) -> tuple[Tensor, Tensor | float]:
    weight, bias = _weight(attn, f"W_{kind.upper()}", like), _bias(attn, f"b_{kind.upper()}", like)
    groups = weight.shape[0] // n_heads  # HookedTransformer repeats shared key and value heads
    return weight[::groups], bias if isinstance(bias, float) else bias[::groups]


def _weight(attn: Any, name: str, like: Tensor) -> Tensor:
    weight = getattr(attn, name, None)
    if not isinstance(weight, Tensor):
        raise UserError(
            f"the model's attention has no {name}",
            expected="weights per head, as TransformerLens names them",
            cure="use nodes='features', which needs the residual stream alone",
        )
    return weight.detach().to(like)


def _bias(attn: Any, name: str, like: Tensor) -> Tensor | float:
    bias = getattr(attn, name, None)
    return bias.detach().to(like) if isinstance(bias, Tensor) else 0.0


def _first(
    what: str, options: Sequence[tuple[str | None, ...]], fits: Callable[..., bool], block: Any
) -> tuple[str | None, ...]:
    """The first of the names of a block's norms that fit."""
    for option in options:
        if all(name is None or isinstance(block._modules.get(name), nn.Module) for name in option) and fits(
            *option
        ):
            return option
    raise Failure(
        f"{what} cannot be put together from the model's own modules",
        cure="this architecture is not understood: use nodes='features', which needs "
        "the residual stream alone",
    )


@torch.no_grad()
def _close(found: Tensor, expected: Tensor) -> bool:
    if found.shape != expected.shape:
        return False
    scale = float(expected.abs().max()) + 1e-12
    return (
        bool(torch.isfinite(found).all())
        and float((found - expected).abs().max()) <= TOLERANCE * scale + 1e-9
    )
