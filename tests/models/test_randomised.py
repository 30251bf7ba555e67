"""A model with shuffled weights keeps its norms, loses what it knew, and never passes for the real one."""

import pytest
import torch

from emocircuits.models import FAMILIES, load_model
from emocircuits.models.randomised import shuffle_weights
from emocircuits.models.tiny import write_tiny_model


@pytest.mark.parametrize("family", FAMILIES.names())
def test_every_layer_changes_in_every_family(family, tmp_path):
    directory = str(write_tiny_model(family, tmp_path))
    model, other = load_model(directory, checks=False), load_model(directory, checks=False)
    before = {name: value.clone() for name, value in other.bridge.original_model.state_dict().items()}
    shuffled = shuffle_weights(other)
    tokens = torch.arange(3, 15)[None]
    with torch.no_grad():
        _, ours = model.bridge.run_with_cache(tokens)
        _, theirs = shuffled.bridge.run_with_cache(tokens)
    for layer in range(model.n_layers):
        for part in ("attn_out", "mlp_out"):
            name = f"blocks.{layer}.hook_{part}"
            assert not torch.allclose(ours[name], theirs[name], atol=1e-4), name
    after = shuffled.bridge.original_model.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.items() if value.ndim < 2)
    # joint and split query, key and value weights share their memory in some families: compared all together
    matrices = (
        torch.cat([value.flatten() for value in state.values() if value.ndim >= 2])
        for state in (before, after)
    )
    assert torch.equal(*(values.sort().values for values in matrices))
    assert shuffled.content_hash != model.content_hash and "shuffled" in shuffled.name
    again = shuffle_weights(load_model(directory, checks=False))
    assert (
        torch.equal(again.bridge(tokens), shuffled.bridge(tokens))
        and again.content_hash == shuffled.content_hash
    )


def test_the_organism_forgets(tmp_path):
    from emocircuits.organism.corpus import generate

    model = load_model("organism", checks=False)
    tokens = torch.tensor([model.encode(next(iter(generate("story", 1, 0))).text)])

    def loss(one):
        with torch.no_grad():
            log_probs = one.bridge(tokens).log_softmax(-1)[0, :-1]
        return float(-log_probs.gather(1, tokens[0, 1:, None]).mean())

    known = loss(model)
    assert loss(shuffle_weights(model)) > known + 3
