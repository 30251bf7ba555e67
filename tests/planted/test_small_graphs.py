"""Graphs of some dozen edges, where patching everything costs nothing: no budget is asked for, and nothing is
missed that shows only together with another edge.
"""

import numpy as np
import pytest
import torch
from planted.brute_force import edges_of, true_edges
from planted.hand_set import carry, look_at
from planted.tasks import task_of
from transformer_lens import HookedTransformer, HookedTransformerConfig

import emocircuits
from emocircuits.passes.prompt_pairs import PairBatch

# coordinates of the stream: tokens, places, two flags, the two outputs
TOKENS, PLACES = 5, 4
PLACE, FLAG, OUT = TOKENS, TOKENS + PLACES, TOKENS + PLACES + 2
LAST = PLACE + PLACES - 1


def metric(logits):
    return logits[:, -1, 0] - logits[:, -1, 1]


def empty(layers, mlp):
    model = HookedTransformer(
        HookedTransformerConfig(
            n_layers=layers,
            d_model=OUT + 2,
            n_ctx=PLACES,
            d_head=4,
            n_heads=2,
            d_mlp=4 if mlp else None,
            attn_only=not mlp,
            d_vocab=TOKENS,
            d_vocab_out=2,
            act_fn="relu" if mlp else None,
            normalization_type=None,
            dtype=torch.float64,
            device="cpu",
            seed=0,
        )
    )
    for parameter in model.parameters():
        parameter.data.zero_()
        parameter.requires_grad_(False)
    model.W_E.data[:, :TOKENS] = torch.eye(TOKENS)
    model.W_pos.data[:, PLACE:FLAG] = torch.eye(PLACES)
    model.unembed.W_U.data[OUT, 0] = model.unembed.W_U.data[OUT + 1, 1] = 1.0
    return model


def query_and_key():
    """a1.h0 looks at place 2 only where its query was flagged by a0.h0 and the key there by a0.h1; either
    alone does nothing.
    """
    model = empty(2, mlp=False)
    first, second = model.blocks
    look_at(first, 0, LAST, PLACE, 12.0)
    carry(first, 0, 3, FLAG)
    look_at(first, 1, PLACE + 2, PLACE + 1, 12.0)
    carry(first, 1, 4, FLAG + 1)
    look_at(second, 0, FLAG, FLAG + 1, 30.0)
    look_at(second, 0, LAST, PLACE + 3, 8.0)
    carry(second, 0, PLACE + 2, OUT)
    return model


def saturated(heads):
    """An MLP that says the same for one raised flag as for more: min(1, flags)."""
    model = empty(1, mlp=True)
    (block,) = model.blocks
    for head in range(heads):
        look_at(block, head, LAST, PLACE + head, 12.0)
        carry(block, head, 3 + head, FLAG)
    block.mlp.W_in.data[FLAG, :2] = 1.0
    block.mlp.b_in.data[1] = -1.0
    block.mlp.W_out.data[0, OUT], block.mlp.W_out.data[1, OUT] = 1.0, -1.0
    return model


def pairs(swapped=False):
    clean, corrupt = torch.tensor([[3, 4, 0, 1], [3, 4, 1, 0]]), torch.tensor([[2, 2, 0, 1], [2, 2, 1, 0]])
    return PairBatch(*((corrupt, clean) if swapped else (clean, corrupt)), torch.arange(2))


CASES = {
    "query and key": (query_and_key, pairs()),
    "query and key, the other way": (query_and_key, pairs(swapped=True)),
    "two heads fill an MLP": (lambda: saturated(2), pairs()),
    "two heads leave an MLP full": (lambda: saturated(2), pairs(swapped=True)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_search_misses_nothing(name):
    build, batch = CASES[name]
    model = build()
    truth, scale, _ = true_edges(model, batch, metric)
    search = emocircuits.attribute(task_of(model, batch, metric), nodes="components", method="verified")
    table = search.edge_table()
    assert 13 <= len(table) <= 42 and len(truth) >= 5 and scale > 0.9
    assert edges_of(table, "verified", 0.02 * scale) == truth
    assert table["verified"].notna().all()  # no prediction stands for an effect


def test_either_edge_alone_shows_nothing_where_both_are_required():
    """What makes the case hard: in the corrupt run neither the query nor the key does anything alone."""
    model, batch = query_and_key(), pairs()
    exact = emocircuits.attribute(
        task_of(model, batch, metric), nodes="components", method="exact", edges=True
    )
    effects = dict(zip(exact.nodes, np.abs(exact.effects).mean(0), strict=True))
    assert effects["a0.h0"] < 1e-6 and effects["a0.h1"] < 1e-6 and effects["a1.h0"] > 0.9
