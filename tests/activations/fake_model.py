"""A model that writes words of its own."""

from types import SimpleNamespace

import torch

SPOKEN = ["<s>", "</s>", "he", "ran", "home.", "far.", "sad", "Sad", "sadly.", "the", "dog"]


class FakeModel:
    """As much of a `LanguageModel` as writing needs: tokens are words, the next word depends on the last one
    only.
    """

    name, content_hash, bos_id, n_ctx, d_vocab = "fake", "abc", 0, 512, 2000
    stop_ids = frozenset({1})

    def __init__(self):
        self.words, self.calls = list(SPOKEN), 0
        self.table = torch.full((self.d_vocab, self.d_vocab), -30.0)
        self.table[:, : len(SPOKEN)] = torch.randn(
            self.d_vocab, len(SPOKEN), generator=torch.Generator().manual_seed(1)
        )
        self.table[:, :2] = -3
        self.bridge = SimpleNamespace(original_model=self.network, cfg=SimpleNamespace(device="cpu"))
        self.tokenizer = SimpleNamespace(
            eos_token_id=1,
            decode=lambda ids, skip_special_tokens: " ".join(self.words[i] for i in ids if i > 1),
        )

    def network(self, tokens, past_key_values=None, use_cache=True):
        assert (tokens.shape[1] == 1) == (past_key_values is not None)
        self.calls += 1
        return SimpleNamespace(logits=self.table[tokens], past_key_values=tokens)

    def encode(self, text):
        for word in text.split():
            if word not in self.words:
                self.words.append(word)
        return [0, *(self.words.index(word) for word in text.split())]

    def token_texts(self, ids):
        return [" " + self.words[i] if i < len(self.words) else "" for i in ids]
