"""Eight transformers whose circuit is known because every weight was set by hand, with busy distractors
around it.

Two blocks of four heads and an MLP each, no norm, float64. The residual stream is cut into named parts; the
circuit uses some, distractor heads and MLPs read everything, write into `junk`, and read each other's junk,
but nothing that reaches the logits. `truth` lists the edges along which the metric's change runs, as worked
out on paper; a test compares them with brute force.
"""

from dataclasses import dataclass

import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig

from emocircuits.passes.prompt_pairs import PairBatch

N_CTX, VOCAB, JUNK = 6, 8, 6
PARTS = {
    "token": (0, VOCAB),
    "place": (VOCAB, VOCAB + N_CTX),
    "moved": (14, 22),
    "flag": (22, 26),
    "out": (26, 28),
    "junk": (28, 28 + JUNK),
}
D_MODEL, D_HEAD, D_MLP = 28 + JUNK, 8, 6


@dataclass(frozen=True)
class Planted:
    """A model, prompts, and the truth.

    Attributes:
        model: the transformer.
        batch: clean and corrupt prompts.
        truth: edges (source, slot) that carry the change.
    """

    model: HookedTransformer
    batch: PairBatch
    truth: frozenset[tuple[str, str]]


def metric(logits: torch.Tensor) -> torch.Tensor:
    """Difference of the two output coordinates at the last position."""
    return logits[:, -1, 0] - logits[:, -1, 1]


def at(part: str, index: int = 0) -> int:
    return PARTS[part][0] + index


def blank(used_heads: dict[int, set[int]], used_mlps: set[int]) -> HookedTransformer:
    """Everything zero but embeddings, the unembedding of `out`, and the distractors."""
    model = HookedTransformer(
        HookedTransformerConfig(
            n_layers=2,
            d_model=D_MODEL,
            n_ctx=N_CTX,
            d_head=D_HEAD,
            n_heads=4,
            d_mlp=D_MLP,
            d_vocab=VOCAB,
            d_vocab_out=2,
            act_fn="relu",
            normalization_type=None,
            dtype=torch.float64,
            device="cpu",
            seed=0,
        )
    )
    source = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.data.zero_()
        parameter.requires_grad_(False)
    model.W_E.data[:, :VOCAB] = torch.eye(VOCAB)
    model.W_pos.data[:, VOCAB : VOCAB + N_CTX] = torch.eye(N_CTX)
    model.unembed.W_U.data[at("out", 0), 0] = model.unembed.W_U.data[at("out", 1), 1] = 1
    junk = slice(*PARTS["junk"])
    for layer, block in enumerate(model.blocks):
        for head in set(range(4)) - used_heads.get(layer, set()):
            for weight in (block.attn.W_Q, block.attn.W_K, block.attn.W_V):
                weight.data[head] = torch.randn(D_MODEL, D_HEAD, generator=source, dtype=torch.float64) * 0.6
            block.attn.W_O.data[head, :, junk] = (
                torch.randn(D_HEAD, JUNK, generator=source, dtype=torch.float64) * 0.6
            )
        if layer not in used_mlps:
            block.mlp.W_in.data[:] = torch.randn(D_MODEL, D_MLP, generator=source, dtype=torch.float64) * 0.6
            block.mlp.W_out.data[:, junk] = (
                torch.randn(D_MLP, JUNK, generator=source, dtype=torch.float64) * 0.6
            )
    return model


def look_at(block, head: int, query: int, key: int, strength: float) -> None:
    """A head whose score is `strength` where the query's coordinate and the key's coordinate are both 1."""
    free = int((block.attn.W_Q.data[head].abs().sum(0) > 0).sum())
    block.attn.W_Q.data[head, query, free] = strength * D_HEAD**0.5
    block.attn.W_K.data[head, key, free] = 1


def carry(block, head: int, read: int, write: int, weight: float = 1.0) -> None:
    """A head that copies one coordinate of what it looks at into another."""
    free = int((block.attn.W_V.data[head].abs().sum(0) > 0).sum())
    block.attn.W_V.data[head, read, free] = 1
    block.attn.W_O.data[head, free, write] = weight


def pairs(clean: list[list[int]], corrupt: list[list[int]]) -> PairBatch:
    return PairBatch(torch.tensor(clean), torch.tensor(corrupt), torch.arange(len(clean)))


LAST = ("place", N_CTX - 1)


def copy() -> Planted:
    """a0.h1 at the last position looks at place 2 and copies whether token 3 or token 4 stands there into the
    output.
    """
    model = blank({0: {1}}, set())
    first = model.blocks[0]
    look_at(first, 1, at(*LAST), at("place", 2), 12.0)
    carry(first, 1, at("token", 3), at("out", 0))
    carry(first, 1, at("token", 4), at("out", 1))
    batch = pairs([[0, 1, 3, 2, 5, 7], [6, 5, 3, 0, 2, 7]], [[0, 1, 4, 2, 5, 7], [6, 5, 4, 0, 2, 7]])
    return Planted(model, batch, frozenset({("embed", "a0.h1<v>"), ("a0.h1", "logits")}))


def induction() -> Planted:
    """a0.h2 moves each token one place on; a1.h0 looks for the place after an earlier copy of the last
    token.

    Clean and corrupt differ in the token before the answer, so the keys that a0.h2 makes are what changes.
    """
    model = blank({0: {2}, 1: {0}}, set())
    first, second = model.blocks
    for place in range(1, N_CTX):
        look_at(first, 2, at("place", place), at("place", place - 1), 12.0)
    for token in range(VOCAB):
        if int((first.attn.W_V.data[2].abs().sum(0) > 0).sum()) < D_HEAD:
            carry(first, 2, at("token", token), at("moved", token))
    for token in (5, 6):
        look_at(second, 0, at("token", token), at("moved", token), 6.0)
    carry(second, 0, at("token", 3), at("out", 0), 2.0)
    carry(second, 0, at("token", 4), at("out", 1), 2.0)
    batch = pairs([[5, 3, 6, 4, 0, 5], [6, 4, 5, 3, 1, 5]], [[6, 3, 5, 4, 0, 5], [5, 4, 6, 3, 1, 5]])
    return Planted(
        model, batch, frozenset({("embed", "a0.h2<v>"), ("a0.h2", "a1.h0<k>"), ("a1.h0", "logits")})
    )


def cancelling() -> Planted:
    """Two heads write the same fact with opposite signs, a third path carries the change."""
    model = blank({0: {0, 1, 3}}, set())
    first = model.blocks[0]
    for head, weight in ((0, 3.0), (1, -3.0)):
        look_at(first, head, at(*LAST), at("place", 2), 12.0)
        carry(first, head, at("token", 3), at("out", 0), weight)
    look_at(first, 3, at(*LAST), at("place", 3), 12.0)
    carry(first, 3, at("token", 2), at("out", 0), 1.0)
    batch = pairs([[0, 1, 3, 2, 5, 7], [6, 5, 3, 2, 1, 7]], [[0, 1, 4, 4, 5, 7], [6, 5, 4, 4, 1, 7]])
    heads = ("a0.h0", "a0.h1", "a0.h3")
    return Planted(
        model,
        batch,
        frozenset({("embed", f"{head}<v>") for head in heads} | {(head, "logits") for head in heads}),
    )


def saturated() -> Planted:
    """a0.h2 looks at whichever place holds token 3, with scores so large that no gradient passes the softmax
    at either end.
    """
    model = blank({0: {2}}, set())
    first = model.blocks[0]
    look_at(first, 2, at(*LAST), at("token", 3), 40.0)
    look_at(first, 2, at(*LAST), at("token", 2), 25.0)
    carry(first, 2, at("place", 1), at("out", 0), 1.0)
    batch = pairs([[0, 3, 1, 2, 5, 7], [6, 3, 5, 2, 1, 7]], [[0, 4, 1, 2, 5, 7], [6, 4, 5, 2, 1, 7]])
    return Planted(model, batch, frozenset({("embed", "a0.h2<k>"), ("a0.h2", "logits")}))


def inhibition() -> Planted:
    """a0.h1 raises a flag where token 3 was seen; the flag turns a1.h2's query away from place 1 and towards
    place 2.
    """
    model = blank({0: {1}, 1: {2}}, set())
    first, second = model.blocks
    look_at(first, 1, at(*LAST), at("place", 3), 12.0)
    carry(first, 1, at("token", 3), at("flag", 0), 1.0)
    look_at(second, 2, at(*LAST), at("place", 1), 4.0)
    look_at(second, 2, at("flag", 0), at("place", 2), 8.0)
    carry(second, 2, at("token", 5), at("out", 0), 2.0)
    carry(second, 2, at("token", 6), at("out", 1), 2.0)
    batch = pairs([[0, 6, 5, 3, 1, 7], [2, 6, 5, 3, 4, 7]], [[0, 6, 5, 4, 1, 7], [2, 6, 5, 1, 4, 7]])
    return Planted(
        model, batch, frozenset({("embed", "a0.h1<v>"), ("a0.h1", "a1.h2<q>"), ("a1.h2", "logits")})
    )


def gate() -> Planted:
    """Two heads raise one flag each; the second block's MLP speaks only when both are up."""
    model = blank({0: {0, 3}}, {1})
    first, second = model.blocks
    for head, place, token, flag in ((0, 1, 3, 0), (3, 2, 5, 1)):
        look_at(first, head, at(*LAST), at("place", place), 12.0)
        carry(first, head, at("token", token), at("flag", flag), 1.0)
    second.mlp.W_in.data[at("flag", 0), 0] = second.mlp.W_in.data[at("flag", 1), 0] = 1
    second.mlp.b_in.data[0] = -1.0
    second.mlp.W_out.data[0, at("out", 0)] = 3.0
    batch = pairs([[0, 3, 5, 2, 1, 7], [6, 3, 5, 0, 2, 7]], [[0, 4, 2, 2, 1, 7], [6, 4, 1, 0, 2, 7]])
    edges = {("embed", "a0.h0<v>"), ("embed", "a0.h3<v>"), ("a0.h0", "m1"), ("a0.h3", "m1"), ("m1", "logits")}
    return Planted(model, batch, frozenset(edges))


def either() -> Planted:
    """Two heads of which one is enough: the first block's MLP of the second block saturates, so each alone
    gives everything.
    """
    model = blank({0: {0, 3}}, {1})
    first, second = model.blocks
    for head, place, token, flag in ((0, 1, 3, 0), (3, 2, 5, 1)):
        look_at(first, head, at(*LAST), at("place", place), 12.0)
        carry(first, head, at("token", token), at("flag", flag), 1.0)
    # min(1, a + b) = relu(a + b) - relu(a + b - 1)
    for unit, (bias, weight) in enumerate(((0.0, 3.0), (-1.0, -3.0))):
        second.mlp.W_in.data[at("flag", 0), unit] = second.mlp.W_in.data[at("flag", 1), unit] = 1
        second.mlp.b_in.data[unit] = bias
        second.mlp.W_out.data[unit, at("out", 0)] = weight
    batch = pairs([[0, 3, 5, 2, 1, 7], [6, 3, 5, 0, 2, 7]], [[0, 4, 2, 2, 1, 7], [6, 4, 1, 0, 2, 7]])
    edges = {("embed", "a0.h0<v>"), ("embed", "a0.h3<v>"), ("a0.h0", "m1"), ("a0.h3", "m1"), ("m1", "logits")}
    return Planted(model, batch, frozenset(edges))


ALL = {one.__name__: one for one in (copy, induction, cancelling, saturated, inhibition, gate, either)}
"""Circuits whose edges all lie on a path of causes to the logits."""


def unless() -> Planted:
    """The second block's MLP speaks for one flag unless the other is up; clean has both, corrupt none, so it
    says the same in both.

    Neither flag's edge shows in the MLP's change, nor in any gradient on the way from corrupt to clean. The
    first flag reaches the output, too.
    """
    model = blank({0: {0, 3}}, {1})
    first, second = model.blocks
    for head, place, token, flag in ((0, 1, 3, 0), (3, 2, 5, 1)):
        look_at(first, head, at(*LAST), at("place", place), 12.0)
        carry(first, head, at("token", token), at("flag", flag), 1.0)
    carry(first, 0, at("token", 3), at("out", 0))
    second.mlp.W_in.data[at("flag", 0), 0], second.mlp.W_in.data[at("flag", 1), 0] = 1, -1.5
    second.mlp.W_out.data[0, at("out", 1)] = 2.0
    batch = pairs([[0, 3, 5, 2, 1, 7], [6, 3, 5, 0, 2, 7]], [[0, 4, 2, 2, 1, 7], [6, 4, 1, 0, 2, 7]])
    edges = {
        ("embed", "a0.h0<v>"),
        ("embed", "a0.h3<v>"),
        ("a0.h0", "m1"),
        ("a0.h3", "m1"),
        ("a0.h0", "logits"),
    }
    return Planted(model, batch, frozenset(edges))
