"""QK attribution: which pair of features made a head look from one position at another.

A head's score is bilinear in what its query and its key read. With the norm's scale held at its value, and
the stream on each side written as x = sum_i f_i d_i + error + bias,

    score(query, key) = sum over (i, j) of  < query_i , B key_j >

where query_i = norm(f_i d_i) W_Q, key_j likewise, and B is whatever lies between: rotary embeddings at the
two positions, norms of queries and keys (their scales held, too), the factor 1 / sqrt(d_head). The biases (of
the SAE, the norm and the projections) are one part on each side. So the parts of all pairs add up to the
score exactly. B is not written down per family: it is read off the model's own block, whose scores are
differentiated with respect to a key for every unit query. Scores are those before soft-capping and masking;
position biases that depend on neither side count as bias with bias.
(https://transformer-circuits.pub/2025/attention-qk; the pairs there are called marginal by marginal.)
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from emocircuits.errors import Failure, UserError
from emocircuits.names import NodeId, format_node, residual_site
from emocircuits.passes.anatomy import Anatomy, Layer, open_anatomy, unsplit
from emocircuits.passes.hooks import hooked
from emocircuits.passes.resume import resume
from emocircuits.sae.dictionary import Dictionary, open_dictionaries

BIAS = "bias"
TOLERANCE = 1e-3
COLUMNS = ("prompt", "query", "key", "effect")


def qk_attribution(
    model: Any,
    saes: Mapping[str, Any],
    tokens: Int[Tensor, "prompt pos"],
    layer: int,
    head: int,
    query: int,
    key: int,
) -> pd.DataFrame:
    """The score with which a head looks from one position at another, split into pairs of features.

    Args:
        model: any TransformerLens object.
        saes: site -> SAE; the one at the stream that the block reads is used (`blocks.L.hook_resid_pre` or
            the block before's `hook_resid_post`).
        tokens: prompts.
        layer, head: the attention head; where query heads share keys, the head of the query.
        query, key: positions, negative ones from the end.

    Returns:
        One row per prompt and pair: `prompt`, `query` (`feature/…/p5`, `error/…/p5` or `bias`), `key`
            likewise, `effect` (part of the score); each prompt's effects add up to its score. Strongest first
            within a prompt.

    Raises:
        UserError: a layer, head or position that does not exist, a key that the query may not see, or no SAE
            at the stream.
        Failure: a norm that is not linear once its scale is held.
    """
    anatomy = open_anatomy(model, tokens)
    length = tokens.shape[1]
    places = [position + length if position < 0 else position for position in (query, key)]
    for what, value, most in (
        ("layer", layer, len(anatomy.layers)),
        ("query position", places[0], length),
        ("key position", places[1], length),
    ):
        if not 0 <= value < most:
            raise UserError(f"{what} {value}", expected=f"0 to {most - 1}")
    part = anatomy.layers[layer]
    if not 0 <= head < part.weights["q"][0].shape[0]:
        raise UserError(f"head {head} of block {layer}", expected=f"0 to {part.weights['q'][0].shape[0] - 1}")
    dictionary = _dictionary(model, saes, layer)
    stream = _stream(anatomy, tokens, part)
    rows = []
    for prompt in range(len(tokens)):
        form = _form(anatomy, part, tokens[prompt : prompt + 1], stream[prompt : prompt + 1], head, *places)
        sides = [
            _sides(dictionary, part, kind, head, stream[prompt, place], place)
            for kind, place in zip("qk", places, strict=True)
        ]
        names, vectors = zip(*sides, strict=True)
        effects = vectors[0] @ form @ vectors[1].T
        table = pd.DataFrame(
            {
                "prompt": prompt,
                "query": [a for a in names[0] for _ in names[1]],
                "key": list(names[1]) * len(names[0]),
                "effect": effects.flatten().numpy(force=True),
            }
        )
        rows.append(table.sort_values("effect", key=abs, ascending=False, kind="stable"))
    return pd.concat(rows, ignore_index=True)[list(COLUMNS)]


def _dictionary(model: Any, saes: Mapping[str, Any], layer: int) -> Dictionary:
    sites = (f"blocks.{layer}.hook_resid_pre", f"blocks.{layer - 1}.hook_resid_post")
    found = next((site for site in sites if site in saes), None)
    if found is None:
        raise UserError(
            f"no SAE at the stream that block {layer} reads",
            expected=" or ".join(sites if layer else sites[:1]),
        )
    return open_dictionaries({found: saes[found]}, getattr(model.cfg, "d_model", None))[found]


@torch.no_grad()
def _stream(
    anatomy: Anatomy, tokens: Int[Tensor, "prompt pos"], layer: Layer
) -> Float[Tensor, "prompt pos d_model"]:
    kept: list[Tensor] = []
    with (
        unsplit(anatomy.model),
        hooked(anatomy.model, anatomy.points, [(layer.attn_reads, lambda value, hook: kept.append(value))]),
    ):
        anatomy.model(tokens)
    return kept[0].detach()


@torch.no_grad()
def _sides(
    dictionary: Dictionary, layer: Layer, kind: str, head: int, x: Float[Tensor, "d_model"], position: int
) -> tuple[list[str], Float[Tensor, "part d_plus"]]:
    """Parts of a query or key before rotation, with a last coordinate that is 1 for the bias and 0
    elsewhere.
    """
    features = dictionary.encode(x[None])[0]
    active = features.nonzero().squeeze(1)
    written = features[active, None] * dictionary.decoder[active]
    error = x.to(written.dtype) - dictionary.decode(features)
    norm, shift = _held_norm(layer, x)
    weight, bias = layer.weights[kind]
    place = head * weight.shape[0] // layer.weights["q"][0].shape[0]  # several query heads share a key
    parts = norm(torch.cat([written, error[None], dictionary.decoder_bias[None]]).to(x)) @ weight[place]
    parts[-1] += shift @ weight[place] + (0.0 if isinstance(bias, float) else bias[place])
    names = [
        format_node(NodeId("feature", site=dictionary.site, feature=int(feature), position=position))
        for feature in active
    ]
    names += [format_node(NodeId("error", site=dictionary.site, position=position)), BIAS]
    last = torch.zeros(len(parts), 1).to(parts)
    last[-1] = 1
    return names, torch.cat([parts, last], dim=1)


def _held_norm(
    layer: Layer, x: Float[Tensor, "d_model"]
) -> tuple[Callable[[Tensor], Tensor], Float[Tensor, "d_model"]]:
    """The norm before attention as a linear map and a shift, its scale held at what it is for x."""
    norm = layer.attn_norm
    if not isinstance(norm, nn.Module):
        return lambda value: value, torch.zeros_like(x)
    if not hasattr(norm, "hook_scale"):
        return lambda value: norm(value[None])[0] - norm(torch.zeros_like(value[None]))[0], norm(
            torch.zeros_like(x)[None, None]
        )[0, 0]
    held: list[Tensor] = []
    with _hook(norm.hook_scale, lambda value, hook: held.append(value)):
        whole = norm(x[None, None])[0, 0]

    def affine(value: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
        with _hook(norm.hook_scale, lambda found, hook: held[0].expand_as(found)):
            return norm(value[None])[0]

    shift = affine(torch.zeros_like(x)[None])[0]
    if float((affine(x[None])[0] - whole).abs().max()) > TOLERANCE * float(whole.abs().max()):
        raise Failure(
            f"the norm of block {layer.number} does not follow its own scale",
            cure="QK attribution needs a norm x / scale",
        )
    return lambda value: affine(value) - shift, shift


def _form(
    anatomy: Anatomy,
    layer: Layer,
    tokens: Int[Tensor, "1 pos"],
    stream: Float[Tensor, "1 pos d_model"],
    head: int,
    query: int,
    key: int,
) -> Float[Tensor, "d_plus d_plus"]:
    """The score of one head between two positions as a bilinear form of the unrotated query and key, biases
    in the last row and column.

    The block is run once with no query and with every unit query at the query's position, and the score
    differentiated with respect to the key, at no key: all of it is linear, so these numbers are exact.
    """
    d_head = layer.weights["q"][0].shape[2]
    shared = head * layer.weights["k"][0].shape[0] // layer.weights["q"][0].shape[0]
    units = torch.cat([torch.zeros(1, d_head), torch.eye(d_head)]).to(stream)
    leaf = torch.zeros(d_head + 1, d_head).to(stream).requires_grad_()
    held, seen = _scales(anatomy, layer, tokens, stream), []

    def put(position: int, place: int, values: Tensor) -> Callable[[Tensor, object], Tensor]:
        def edit(value: Tensor, hook: object) -> Tensor:
            flat = value.view(*value.shape[:2], -1, d_head) if value.ndim == 3 else value
            change = torch.zeros_like(flat).index_put(
                (
                    torch.arange(len(values), device=values.device),
                    torch.tensor(position),
                    torch.tensor(place),
                ),
                values,
            )
            keep = torch.ones_like(flat)
            keep[:, position, place] = 0
            return (flat * keep + change).view_as(value)

        return edit

    rows = d_head + 1
    hooks = [
        (layer.hook("hook_q"), put(query, head, units)),
        (layer.hook("hook_k"), put(key, shared, leaf)),
        (layer.hook("hook_attn_scores"), lambda value, hook: seen.append(value)),
        *((name, lambda value, hook, scale=scale: scale.expand_as(value)) for name, scale in held.items()),
    ]
    with unsplit(anatomy.model), torch.enable_grad():
        resume(
            anatomy.model,
            tokens.expand(rows, -1),
            f"blocks.{layer.number}.hook_resid_pre",
            stream.expand(rows, -1, -1),
            until=residual_site(layer.number),
            hooks=hooks,
        )
    scores = seen[0][:, head, query, key]
    if not bool((scores > torch.finfo(scores.dtype).min / 2).all()):
        raise UserError(
            f"position {query} does not look at position {key}",
            expected="a key that is not masked: not after the query, within the window",
        )
    (slopes,) = torch.autograd.grad(scores.sum(), leaf)
    values, slopes = scores.detach().to(slopes), slopes.detach()
    form = torch.zeros(rows, rows).to(slopes)
    form[:-1, :-1] = slopes[1:] - slopes[0]
    form[-1, :-1] = slopes[0]
    form[:-1, -1] = values[1:] - values[0]
    form[-1, -1] = values[0]
    return form


def _scales(
    anatomy: Anatomy, layer: Layer, tokens: Int[Tensor, "1 pos"], stream: Float[Tensor, "1 pos d_model"]
) -> dict[str, Tensor]:
    """What the norms of queries and keys divide by, where there are such."""
    names = [
        name
        for name in (f"blocks.{layer.number}.attn.{kind}_norm.hook_scale" for kind in "qk")
        if name in anatomy.points
    ]
    held: dict[str, Tensor] = {}
    if names:
        with torch.no_grad():
            resume(
                anatomy.model,
                tokens,
                f"blocks.{layer.number}.hook_resid_pre",
                stream,
                until=residual_site(layer.number),
                hooks=[
                    (name, lambda value, hook, name=name: held.__setitem__(name, value)) for name in names
                ],
            )
    return held


@contextmanager
def _hook(point: Any, function: Callable[..., Any]) -> Iterator[None]:
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the bridge says that a held scale leaves Hugging Face's own norm
        handle = nn.Module.register_forward_hook(point, lambda module, given, out: function(out, module))
        stack.callback(handle.remove)
        yield
