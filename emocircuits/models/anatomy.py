"""Where a TransformerLens model's parts are: what its heads and MLPs read from the residual stream and write into it.

Hook names are the same on a `TransformerBridge` and a `HookedTransformer`; what lies between them is not: norms stand before
a part, behind it (OLMo 2), on both sides (Gemma 2) or nowhere, attention and MLP stand in a row or side by side (GPT-NeoX),
several query heads share a key. So nothing is assumed: the maps are put together from the model's own modules and compared
with what its hooks hold on a probe, once.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from emocircuits.errors import Failure, UserError
from emocircuits.models.hook_points import hook_points, hooked

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
        weights: q, k, v -> (weight, bias) of the projection; keys and values may have fewer heads than queries.
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
        self, z: Float[Tensor, "prompt pos head d_head"], change: Float[Tensor, "prompt pos head d_head"]
    ) -> Float[Tensor, "prompt pos head d_model"]:
        """What a change of each head's output alone adds to the stream, to first order where a norm follows the heads."""
        written = torch.einsum("pthe,hed->pthd", change, self.W_O)
        if self.attn_post is _same:
            return written
        base = torch.einsum("pthe,hed->ptd", z, self.W_O) + self.b_O
        return _forward_derivative(self.attn_post, base[:, :, None].expand_as(written), written)

    def heads_move(
        self, z: Float[Tensor, "prompt pos head d_head"], change: Float[Tensor, "prompt pos head d_head"]
    ) -> Float[Tensor, "prompt pos head d_model"]:
        """What a change of each head's output alone really adds to the stream."""
        written = torch.einsum("pthe,hed->pthd", change, self.W_O)
        if self.attn_post is _same:
            return written
        base = torch.einsum("pthe,hed->ptd", z, self.W_O) + self.b_O
        return self.attn_post(base[:, :, None] + written) - self.attn_post(base)[:, :, None]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """All blocks of a model, and the stream around them.

    Attributes:
        model: the TransformerLens object.
        layers: its blocks.
        embedding: hook of the stream before the first block.
        positions: hook of what position embeddings add to it; None for families without.
        last: hook of the stream behind the last block.
        points: its hooks by name (`emocircuits.models.hook_points`).
    """

    model: Any
    layers: tuple[Layer, ...]
    embedding: str
    positions: str | None
    last: str
    points: Mapping[str, HookPoint]


def open_anatomy(model: Any, tokens: Int[Tensor, "prompt pos"]) -> Anatomy:
    """Finds the parts of a model and checks them on a few tokens.

    Args:
        model: any TransformerLens object; it is left as it was.
        tokens: prompts; the first few positions of the first one are run once.

    Raises:
        UserError: a hook is missing, or no arrangement of the model's modules gives what its hooks hold.
    """
    probe = tokens[:1, :PROBE_POSITIONS]
    names = {f"blocks.{layer}.{name}" for layer in range(model.cfg.n_layers) for name in (
        "hook_resid_pre", "hook_resid_mid", "hook_resid_post", "attn.hook_q", "attn.hook_k", "attn.hook_v", "attn.hook_z",
        "hook_attn_out", "hook_mlp_out")} | {"hook_pos_embed"}
    points = hook_points(model)
    with torch.no_grad(), unsplit(model), _recorded(model, points, names) as seen:
        model(probe)
    layers = tuple(_layer(model, number, seen) for number in range(model.cfg.n_layers))
    last = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    positions = "hook_pos_embed" if "hook_pos_embed" in seen else None
    return Anatomy(model, layers, "blocks.0.hook_resid_pre", positions, last, points)


@contextmanager
def unsplit(model: Any) -> Iterator[None]:
    """One input for queries, keys and values inside this context, as the hooks are read here, whatever the model's flags."""
    flags = ("use_split_qkv_input", "use_attn_in", "use_hook_mlp_in", "use_attn_result")
    kept = {name: getattr(model.cfg, name) for name in flags if getattr(model.cfg, name, False)}
    for name in kept:
        setattr(model.cfg, name, False)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(model.cfg, name, value)


@contextmanager
def _recorded(model: Any, points: Mapping[str, HookPoint], names: set[str]) -> Iterator[dict[str, Tensor]]:
    """What the hooks of these names hold in the forward passes inside; names that do not exist are left out."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda value, hook: seen.__setitem__(name, value.detach())

    with hooked(model, points, [(name, keep(name)) for name in sorted(names) if name in points]):
        yield seen


def _layer(model: Any, number: int, seen: dict[str, Tensor]) -> Layer:
    block, where = model.blocks[number], f"blocks.{number}"
    missing = [name for name in ("hook_resid_pre", "attn.hook_q", "attn.hook_z", "hook_attn_out") if f"{where}.{name}" not in seen]
    if missing:
        raise UserError(f"the model has no {where}.{missing[0]}", expected="a transformer whose attention has heads",
                        cure="use nodes='features', which needs the residual stream alone")
    pre, attn_out = seen[f"{where}.hook_resid_pre"], seen[f"{where}.hook_attn_out"]
    norms = {name: _norm(block, name) for name in ("ln1", "ln1_post", "ln2", "ln2_post")}
    attn, z = block.attn, seen[f"{where}.attn.hook_z"]
    weights = {kind: _projection(attn, kind, seen[f"{where}.attn.hook_{kind}"].shape[-2], pre) for kind in QKV}
    W_O, b_O = _weight(attn, "W_O", pre), _bias(attn, "b_O", pre)
    queries = seen[f"{where}.attn.hook_q"]
    probe = {kind: weights[kind] for kind in QKV}

    def fits_q(norm: Map) -> bool:
        weight, bias = probe["q"]
        return _close(torch.einsum("...d,hde->...he", norm(pre), weight) + bias, queries)

    attn_norm = _first(f"{where}: what its queries are made from", (norms["ln1"], _same), fits_q)
    summed = torch.einsum("pthe,hed->ptd", z, W_O) + b_O
    attn_post = _first(f"{where}: what its heads add up to", (_same, norms["ln1_post"], norms["ln1"]),
                       lambda post: _close(post(summed), attn_out))
    mid, parallel = seen.get(f"{where}.hook_resid_mid"), False
    if f"{where}.hook_mlp_out" not in seen:
        return Layer(number, attn_norm, weights, W_O, b_O, attn_post, None, _same, None, False)
    mlp_out = seen[f"{where}.hook_mlp_out"]
    both = mid is None or not _close(pre + attn_out, mid) or not _close(mid + mlp_out, seen[f"{where}.hook_resid_post"])
    mid, parallel = (pre, True) if both else (mid, False)
    pairs = [(norm, post) for norm in (norms["ln2"], norms["ln1"], _same) for post in (_same, norms["ln2_post"], norms["ln2"])
             if norm is not None and post is not None]
    mlp_norm, mlp_post = _first(f"{where}: what its MLP reads and writes", pairs,
                                lambda pair: _close(pair[1](block.mlp(pair[0](mid))), mlp_out))
    return Layer(number, attn_norm, weights, W_O, b_O, attn_post, lambda x: mlp_post(block.mlp(mlp_norm(x))), mlp_norm,
                 block.mlp, parallel)


def _forward_derivative(function: Map, x: Tensor, change: Tensor) -> Tensor:
    """J(x) change, by the derivatives that a backward pass takes: forward mode would not heed what hooks hold constant."""
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        out = function(leaf)
        seed = torch.zeros_like(out, requires_grad=True)
        (back,) = torch.autograd.grad(out, leaf, seed, create_graph=True)
        (found,) = torch.autograd.grad(back, seed, change.to(back.dtype))
    return found.detach()


def _norm(block: Any, name: str) -> Map | None:
    module = block._modules.get(name)
    return module if isinstance(module, nn.Module) else None


def _projection(attn: Any, kind: str, n_heads: int, like: Tensor) -> tuple[Tensor, Tensor | float]:
    weight, bias = _weight(attn, f"W_{kind.upper()}", like), _bias(attn, f"b_{kind.upper()}", like)
    groups = weight.shape[0] // n_heads  # HookedTransformer repeats shared key and value heads
    return weight[::groups], bias if isinstance(bias, float) else bias[::groups]


def _weight(attn: Any, name: str, like: Tensor) -> Tensor:
    weight = getattr(attn, name, None)
    if not isinstance(weight, Tensor):
        raise UserError(f"the model's attention has no {name}", expected="weights per head, as TransformerLens names them",
                        cure="use nodes='features', which needs the residual stream alone")
    return weight.detach().to(like)


def _bias(attn: Any, name: str, like: Tensor) -> Tensor | float:
    bias = getattr(attn, name, None)
    return bias.detach().to(like) if isinstance(bias, Tensor) else 0.0


def _first(what: str, options: Any, fits: Callable[[Any], bool]) -> Any:
    """The first option that fits."""
    for option in options:
        if option is not None and fits(option):
            return option
    raise Failure(f"{what} cannot be put together from the model's own modules",
                  cure="this architecture is not understood: use nodes='features', which needs the residual stream alone")


@torch.no_grad()
def _close(found: Tensor, expected: Tensor) -> bool:
    if found.shape != expected.shape:
        return False
    scale = float(expected.abs().max()) + 1e-12
    return bool(torch.isfinite(found).all()) and float((found - expected).abs().max()) <= TOLERANCE * scale + 1e-9
