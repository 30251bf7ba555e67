"""Readings and attention of a circuit's example: against the model itself, on the planted model."""

import numpy as np
import pytest
import torch

from emocircuits.models import load_model
from emocircuits.models.planted.model import planted_pairs, write_planted_model
from emocircuits.studies.example_tokens import attention_patterns


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(str(write_planted_model(tmp_path_factory.mktemp("planted"))))


def test_patterns_are_the_models_own(model):
    """The planted attention is uniform over what came before; the oracle is Hugging Face's own output of
    attentions.
    """
    tokens = torch.tensor([model.encode(planted_pairs(1)[0].clean)])
    found = attention_patterns(model.bridge, tokens)
    assert len(found) == 12
    expected = model.bridge.original_model(tokens, output_attentions=True).attentions
    for layer, attention in enumerate(expected):
        for head in range(attention.shape[1]):
            np.testing.assert_allclose(found[f"a{layer}.h{head}"], attention[0, head], atol=1e-6)
    first = found["a0.h0"]
    np.testing.assert_allclose(first.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(first[4, :5], 0.2, atol=1e-3)
    assert not torch.triu(first, 1).any()


def test_what_a_run_keeps(debug_run):
    import json

    kept = json.loads((debug_run / "tokens_reward_hacking.json").read_text())
    clean, corrupt = kept["sides"]["clean"], kept["sides"]["corrupt"]
    differs = [
        place
        for place, (one, two) in enumerate(zip(clean["tokens"], corrupt["tokens"], strict=True))
        if one != two
    ]
    assert differs
    assert clean["readings"]["desperate"][0] is None
    words = np.array([clean["readings"]["desperate"][place] for place in differs])
    others = np.array([corrupt["readings"]["desperate"][place] for place in differs])
    assert (words > others).all()
    for head in kept["heads"]:
        assert head["share"] == pytest.approx(
            np.array(head["pattern"])[-1, differs].sum(), abs=2e-3 * len(differs)
        )
    assert [head["share"] for head in kept["heads"]] == sorted(
        (head["share"] for head in kept["heads"]), reverse=True
    )
