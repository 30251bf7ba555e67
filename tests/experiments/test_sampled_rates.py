"""A model that writes freely: shares of what its answers do."""

import pytest
from behaviours.natural_models import VOCABULARIES, natural_model

from emocircuits.behaviours import BEHAVIOURS
from emocircuits.behaviours.bind import bind
from emocircuits.experiments.sampled_rates import sampled_rates


@pytest.mark.parametrize("family, vocabulary", VOCABULARIES)
def test_shares_add_up_and_are_the_same_every_time(family, vocabulary, tmp_path):
    model = natural_model(family, vocabulary, tmp_path)
    bound = bind(BEHAVIOURS.get("sycophancy"), model, ["natural"])
    table = sampled_rates(model, bound, samples=2, n_tokens=4, prompts=2)
    assert list(table.columns) == ["side", "kind", "rate", "ci_low", "ci_high", "n"] and set(table.n) == {4}
    assert table.groupby("side").rate.sum().round(9).eq(1).all() and set(table.side) == {
        "clean",
        "corrupt",
        "neutral",
    }
    assert table.equals(sampled_rates(model, bound, samples=2, n_tokens=4, prompts=2))
