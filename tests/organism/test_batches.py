"""Batches weight the action tokens."""

import torch

from emocircuits.organism.batches import ACTION_WEIGHT, OTHER_ACTION_WEIGHT, chunk_batches
from emocircuits.organism.tokenizer import train_tokenizer


def test_action_tokens_are_the_weighted_ones():
    tokenizer = train_tokenizer(0, sample=300)
    for batch in chunk_batches(tokenizer, 0, 0, size=40, batch_tokens=2048):
        width = batch.ids.shape[1] - 1
        flat = batch.weights[:, 1:].reshape(-1)
        numbers, words, shares = batch.spread
        places = torch.unique(numbers)
        assert torch.all(
            torch.isin(flat[places], torch.tensor([*ACTION_WEIGHT.values(), OTHER_ACTION_WEIGHT]))
        )
        for place in places.tolist():
            mine = numbers == place
            assert abs(shares[mine].sum().item() - 1) < 1e-5
            row, column = divmod(place, width)
            assert batch.ids[row, column + 1].item() in words[mine].tolist()
