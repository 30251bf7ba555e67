"""A model that writes freely: shares of what its answers do."""

from types import SimpleNamespace

import pytest
import torch
from behaviours.natural_models import VOCABULARIES, natural_model
from transformers import AutoModelForCausalLM

from emocircuits.behaviours import BEHAVIOURS
from emocircuits.behaviours.bind import bind
from emocircuits.experiments.sampled_rates import sampled_rates
from emocircuits.interventions.generate import sample
from emocircuits.models import load_model
from emocircuits.models.tiny import write_tiny_model


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


def test_an_answer_ends_where_the_model_ends_it(tmp_path):
    """A model that writes ` nothing<eos>` and, were it made to go on, ` blackmail`."""
    directory = write_tiny_model("llama", tmp_path, words=("blackmail", "nothing"))
    hf_model = AutoModelForCausalLM.from_pretrained(directory)
    plain = load_model(str(directory), checks=False)
    one = {word: plain.single_token(word) for word in ("blackmail", "nothing")}
    chain = [plain.encode("He felt")[-1], one["nothing"], plain.tokenizer.eos_token_id, one["blackmail"]]
    with torch.no_grad():
        for layer in hf_model.model.layers:
            layer.self_attn.o_proj.weight.mul_(1e-3)
            layer.mlp.down_proj.weight.mul_(1e-3)
        embedded = hf_model.model.embed_tokens.weight
        for before, after in zip(chain, [*chain[1:], one["nothing"]], strict=True):
            hf_model.lm_head.weight[after] += 60 * embedded[before] / embedded[before].norm()
    hf_model.save_pretrained(directory)
    model = load_model(str(directory))
    ids = torch.tensor([model.encode("He felt")])
    written = sample(model.bridge, ids, 4, temperature=0)[0].tolist()
    assert written[:3] == chain[1:]
    theirs = hf_model.generate(ids, max_new_tokens=4, do_sample=False)[0, ids.shape[1] :]
    assert model.answer(written) == model.tokenizer.decode(theirs, skip_special_tokens=True) == " nothing"
    pairs = [SimpleNamespace(clean="He felt", corrupt="He felt", details={})]
    bound = SimpleNamespace(
        behaviour=SimpleNamespace(name="blackmail"), pairs=lambda split, count: pairs[:count]
    )
    table = sampled_rates(model, bound, samples=1, n_tokens=4, temperature=0)
    assert set(table.loc[table.kind == "target", "rate"]) == {0.0}
