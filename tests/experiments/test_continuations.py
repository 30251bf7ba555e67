"""Whole continuations, against the chain rule one token at a time."""

import numpy as np
import pytest
import torch

from emocircuits.behaviours.material import PromptPair
from emocircuits.errors import UserError
from emocircuits.experiments.continuations import continuation_odds
from emocircuits.models import load_model
from emocircuits.models.tiny import write_tiny_model


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_odds_are_those_of_one_token_after_another(family, tmp_path):
    model = load_model(str(write_tiny_model(family, tmp_path)), checks=False)
    texts = (" the old house by the sea", " a red lamp")
    pairs = [
        PromptPair("a", "she went to", "he came from", "find", details={"continuations": texts}),
        PromptPair("b", "on the table", "on the chair", "score", details={"continuations": texts[::-1]}),
    ]
    for side in ("clean", "corrupt"):
        for pair, found in zip(pairs, continuation_odds(model, pairs, side), strict=True):
            total = []
            for text in pair.details["continuations"]:
                prompt = model.encode(getattr(pair, side))
                whole = model.encode(getattr(pair, side) + text)
                assert whole[: len(prompt)] == prompt
                known = 0.0
                for place in range(len(prompt), len(whole)):
                    logits = model.bridge(torch.tensor([whole[:place]]))[0, -1].double()
                    known += float(logits.log_softmax(-1)[whole[place]])
                total.append(known)
            assert found == pytest.approx(total[0] - total[1], abs=1e-4)
    swapped = [PromptPair("c", "she went to", "he came from", "find", details={"continuations": texts[::-1]})]
    np.testing.assert_allclose(
        continuation_odds(model, swapped), -continuation_odds(model, pairs[:1]), atol=1e-6
    )


def test_pairs_without_continuations_are_refused():
    with pytest.raises(UserError, match="do not say how the act goes on"):
        continuation_odds(None, [PromptPair("a", "x", "y", "find")])
