"""Random circuits out of parts that mean something, in transformers of three blocks with distractors; the
truth is what brute force finds.

Detectors raise a flag where a token stands (by what a head copies or by where it looks); relays, inhibitors,
gates and differences make flags of flags; two of them reach the output. Several flags may meet, cancel, or
hold each other's place, so causes hide from gradients.
"""

import random
from dataclasses import dataclass

import torch
from planted.hand_set import carry, look_at, metric
from transformer_lens import HookedTransformer, HookedTransformerConfig

from emocircuits.passes.prompt_pairs import PairBatch

POSITIONS, VOCAB, FLAGS, JUNK, LAYERS, HEADS = 6, 8, 8, 6, 3, 4
PLACE, FLAG, OUT = VOCAB, VOCAB + POSITIONS, VOCAB + POSITIONS + FLAGS
D_MODEL, WIDTH = OUT + 2 + JUNK, 8
LAST = PLACE + POSITIONS - 1
MAKERS = ("relay", "inhibitor", "contest", "difference", "and", "or", "not", "unless")

__all__ = ["metric", "random_circuit"]


@dataclass
class _Flags:
    """Flags so far as (number, block after which they stand), and the heads and MLPs in use."""

    made: list[tuple[int, int]]
    heads: set[tuple[int, int]]
    mlps: set[int]

    def add(self, layer: int) -> int:
        self.made.append((len(self.made), layer))
        return FLAG + len(self.made) - 1


def random_circuit(seed: int) -> tuple[HookedTransformer, PairBatch]:
    """A model with a random circuit, and two pairs of prompts."""
    choose = random.Random(seed)
    model = _empty(choose.choice(("relu", "gelu")))
    flags = _Flags([], set(), set())
    clean = [[choose.choice((0, 1, 2)) for _ in range(POSITIONS - 1)] + [7] for _ in range(2)]
    corrupt = [list(prompt) for prompt in clean]
    for place in choose.sample(range(1, POSITIONS - 1), choose.choice((1, 2, 3))):
        there, gone = choose.choice((3, 4)), choose.choice((5, 6))
        sides = (there, gone) if choose.random() < 0.7 else (gone, there)
        for row in range(2):
            clean[row][place], corrupt[row][place] = sides
        _detector(model, flags, choose, place, there)
    for _ in range(choose.choice((0, 1, 2))):
        _maker(model, flags, choose)
    for number, _ in flags.made[-2:]:
        model.unembed.W_U.data[FLAG + number, choose.choice((0, 1))] += choose.choice((1.0, 2.0, -1.5))
    _distractors(model, flags, seed)
    return model, PairBatch(torch.tensor(clean), torch.tensor(corrupt), torch.arange(2))


def _empty(act: str) -> HookedTransformer:
    model = HookedTransformer(
        HookedTransformerConfig(
            n_layers=LAYERS,
            d_model=D_MODEL,
            n_ctx=POSITIONS,
            d_head=WIDTH,
            n_heads=HEADS,
            d_mlp=WIDTH,
            d_vocab=VOCAB,
            d_vocab_out=2,
            act_fn=act,
            normalization_type=None,
            dtype=torch.float64,
            device="cpu",
            seed=0,
        )
    )
    for parameter in model.parameters():
        parameter.data.zero_()
        parameter.requires_grad_(False)
    model.W_E.data[:, :VOCAB] = torch.eye(VOCAB)
    model.W_pos.data[:, PLACE:FLAG] = torch.eye(POSITIONS)
    return model


def _free_head(flags: _Flags, choose: random.Random, layer: int) -> int:
    head = choose.choice([head for head in range(HEADS) if (layer, head) not in flags.heads])
    flags.heads.add((layer, head))
    return head


def _detector(model: HookedTransformer, flags: _Flags, choose: random.Random, place: int, token: int) -> None:
    layer = choose.choice((0, 0, 1))
    block, head = model.blocks[layer], _free_head(flags, choose, layer)
    if choose.random() < 0.5:
        look_at(block, head, LAST, PLACE + place, 12.0)
        carry(block, head, token, flags.add(layer), choose.choice((1.0, 2.0)))
    else:
        look_at(block, head, LAST, token, choose.choice((8.0, 40.0)))
        look_at(block, head, LAST, PLACE, choose.choice((4.0, 6.0)))
        carry(block, head, PLACE + place, flags.add(layer))


def _maker(model: HookedTransformer, flags: _Flags, choose: random.Random) -> None:
    """A flag made of one or two others; none where there is no room."""
    kind, (one, at), (two, after) = (
        choose.choice(MAKERS),
        choose.choice(flags.made),
        choose.choice(flags.made),
    )
    one, two, layer = FLAG + one, FLAG + two, max(at, after)
    if kind in MAKERS[:4]:
        if layer + 1 == LAYERS:
            return
        block, head = model.blocks[layer + 1], _free_head(flags, choose, layer + 1)
        if kind in ("relay", "difference"):
            made = flags.add(layer + 1)
            look_at(block, head, LAST, LAST, 12.0)
            carry(block, head, one, made)
            if kind == "difference":
                carry(block, head, two, made, -1.0)
            return
        look_at(block, head, LAST, PLACE + 1, 4.0)
        look_at(block, head, one, PLACE, 9.0)
        if kind == "contest":
            look_at(block, head, two, PLACE, -9.0)
        carry(block, head, PLACE, flags.add(layer + 1))
        return
    if layer in flags.mlps:
        return
    flags.mlps.add(layer)
    mlp, made = model.blocks[layer].mlp, flags.add(layer)
    units = {
        "and": ((1.0, 1.0, -1.0, 1.0),),
        "or": ((1.0, 1.0, 0.0, 1.0), (1.0, 1.0, -1.0, -1.0)),
        "not": ((-1.0, 0.0, 1.0, 1.0),),
        "unless": ((1.0, -choose.choice((1.0, 1.5, 2.0)), 0.0, 2.0),),
    }[kind]
    for unit, (first, second, bias, weight) in enumerate(units):
        mlp.W_in.data[two, unit] = second
        mlp.W_in.data[one, unit] = first
        mlp.b_in.data[unit], mlp.W_out.data[unit, made] = bias, weight


def _distractors(model: HookedTransformer, flags: _Flags, seed: int) -> None:
    """Heads and MLPs that read everything and each other's junk, and reach no output."""
    source, junk = torch.Generator().manual_seed(seed), slice(OUT + 2, D_MODEL)

    def drawn(*shape: int) -> torch.Tensor:
        return 0.6 * torch.randn(*shape, generator=source, dtype=torch.float64)

    for layer, block in enumerate(model.blocks):
        for head in range(HEADS):
            if (layer, head) not in flags.heads:
                for weight in (block.attn.W_Q, block.attn.W_K, block.attn.W_V):
                    weight.data[head] = drawn(D_MODEL, WIDTH)
                block.attn.W_O.data[head, :, junk] = drawn(WIDTH, JUNK)
        if layer not in flags.mlps:
            block.mlp.W_in.data[:], block.mlp.W_out.data[:, junk] = drawn(D_MODEL, WIDTH), drawn(WIDTH, JUNK)
