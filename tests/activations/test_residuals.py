"""Rows in a store are the model's own residual stream, whatever the batch; a killed run resumes."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from emocircuits.activations import LabelledText, StoreSettings, collect
from emocircuits.activations import residuals as module
from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.errors import UserError
from emocircuits.models import load_model
from emocircuits.models.tiny import SAMPLE, write_tiny_model

WORDS = " ".join(SAMPLE).split()


def texts(count: int = 12) -> list[LabelledText]:
    source = np.random.default_rng(0)
    return [
        LabelledText(
            f"t{number}",
            " ".join(source.choice(WORDS, source.integers(3, 16))),
            emotion="calm" if number % 2 else "sad",
            topic="rain",
            kind="story",
            split="train",
        )
        for number in range(count)
    ]


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma2", "qwen3"])
def model(request, tmp_path_factory):
    return load_model(str(write_tiny_model(request.param, tmp_path_factory.mktemp(request.param))))


def test_rows_equal_hugging_face_one_text_at_a_time(model, tmp_path):
    store = collect(
        model, texts(), tmp_path / "a.h5", dtype="float32", settings=StoreSettings(batch_tokens=96)
    )
    plain = AutoModelForCausalLM.from_pretrained(model.directory, attn_implementation="eager").eval()
    assert store.sites == model.sites and store.metadata["model_hash"] == model.content_hash
    for number, text in enumerate(texts()):
        ids = model.encode(text.text)
        with torch.no_grad():
            hidden = plain(torch.tensor([ids]), output_hidden_states=True).hidden_states
        rows = np.flatnonzero(store.prompt_index == number)
        assert store.tokens[rows].tolist() == ids and store.positions[rows].tolist() == list(range(len(ids)))
        # Hugging Face applies the final norm to the last hidden state
        for layer, site in enumerate(store.sites[:-1]):
            expected = hidden[layer + 1][0].numpy()
            np.testing.assert_allclose(store.read(site, rows), expected, atol=2e-5 * np.abs(expected).max())


def test_one_at_a_time_and_eight_at_a_time_agree(model, tmp_path):
    one = collect(
        model, texts(), tmp_path / "one.h5", dtype="float32", settings=StoreSettings(batch_tokens=1)
    )
    many = collect(
        model, texts(), tmp_path / "many.h5", dtype="float32", settings=StoreSettings(batch_tokens=8 * 40)
    )
    for site in one.sites:
        a, b = one.read(site, slice(0, one.n_rows)), many.read(site, slice(0, many.n_rows))
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(a).max())


def test_the_bytes_do_not_depend_on_the_number_of_threads(model, tmp_path):
    before, hashes = torch.get_num_threads(), []
    how = StoreSettings(batch_tokens=24, shard_rows=40)
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            store = collect(model, texts(40), tmp_path / f"{count}.h5", settings=how)
            hashes.append(store.content_hash)
    finally:
        torch.set_num_threads(before)
    assert len(set(hashes)) == 1


def test_bfloat16_rounds_float32(model, tmp_path):
    exact = collect(model, texts(), tmp_path / "f.h5", dtype="float32")
    short = collect(model, texts(), tmp_path / "b.h5")
    for site in exact.sites:
        a = torch.from_numpy(exact.read(site, slice(0, exact.n_rows)))
        assert np.array_equal(short.read(site, slice(0, exact.n_rows)), a.bfloat16().float().numpy())


def test_a_killed_run_redoes_the_unfinished_shard_only(model, tmp_path, monkeypatch):
    settings = StoreSettings(batch_tokens=24, shard_rows=40)
    whole = collect(model, texts(), tmp_path / "whole.h5", settings=settings)
    assert len(whole.shards) > 2
    real, calls, most = module.row_reader, [], whole.shards[0].n_prompts + 1

    @contextmanager
    def counted(*arguments):
        def counting(batch):
            calls.append(len(batch))
            if sum(calls) > most:
                raise KeyboardInterrupt
            return read(batch)

        with real(*arguments) as read:
            yield counting

    monkeypatch.setattr(module, "row_reader", counted)
    with pytest.raises(KeyboardInterrupt):
        collect(model, texts(), tmp_path / "killed.h5", settings=settings)
    assert not (tmp_path / "killed.h5").exists()
    calls.clear()
    most = 10**6
    resumed = collect(model, texts(), tmp_path / "killed.h5", settings=settings)
    assert sum(calls) == len(texts()) - whole.shards[0].n_prompts
    assert resumed.content_hash == whole.content_hash
    calls.clear()
    assert (
        collect(model, texts(), tmp_path / "killed.h5", settings=settings).content_hash == whole.content_hash
    )
    assert calls == []


def test_twins_take_the_rows_of_the_first_of_them(model, tmp_path, monkeypatch):
    single = collect(model, texts(), tmp_path / "single.h5")
    real, read_texts = module.row_reader, []

    @contextmanager
    def counted(*arguments):
        with real(*arguments) as read:
            yield lambda batch: (read_texts.append(len(batch)), read(batch))[1]

    monkeypatch.setattr(module, "row_reader", counted)
    numbers = (7, 0, 7, 11, 3)
    twins = [replace(texts()[number], id=f"twin {place}") for place, number in enumerate(numbers)]
    both = collect(model, [*texts(), *twins], tmp_path / "both.h5", settings=StoreSettings(shard_rows=40))
    assert len(both.shards) > 2 and sum(read_texts) == len(texts())
    for site in both.sites:
        for place, number in enumerate([*range(12), *numbers]):
            np.testing.assert_allclose(
                both.read(site, np.flatnonzero(both.prompt_index == place)),
                single.read(site, np.flatnonzero(single.prompt_index == number)),
                rtol=2**-7,
                atol=1e-6,
            )


def test_another_models_store_is_not_overwritten(model, tmp_path):
    collect(model, texts(3), tmp_path / "s.h5")
    before = (tmp_path / "s.h5").read_bytes()
    with pytest.raises(
        UserError, match="s.h5 holds activations of 3 prompts of the model .*choose another path"
    ):
        collect(replace(model, content_hash="0" * 64), texts(3), tmp_path / "s.h5")
    assert (tmp_path / "s.h5").read_bytes() == before


def test_fewer_sites_stop_early(model, tmp_path):
    store = collect(model, texts(4), tmp_path / "s.h5", layers=[model.sites[1]], dtype="float32")
    full = collect(model, texts(4), tmp_path / "f.h5", dtype="float32")
    assert store.sites == (model.sites[1],)
    assert np.array_equal(store.read(model.sites[1], slice(0, 20)), full.read(model.sites[1], slice(0, 20)))


def test_labels_arrive_in_the_store(model, tmp_path):
    collect(model, texts(5), tmp_path / "s.h5")
    prompts = ActivationStore.open(tmp_path / "s.h5").prompts
    assert prompts["emotion"].tolist() == ["sad", "calm", "sad", "calm", "sad"]
    assert prompts["topic"].tolist() == ["rain"] * 5 and not prompts["named"].any()


def test_length_batches_hold_every_text_once_within_the_budget():
    lengths = np.array([5, 30, 7, 7, 12, 30, 3, 90])
    batches = list(module.length_batches(lengths, 60))
    assert sorted(np.concatenate(batches)) == list(range(8))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= 60


@pytest.mark.parametrize(
    "change, word",
    [
        (lambda good: [], "no texts"),
        (lambda good: [good[0], good[0]], "twice"),
        (lambda good: [LabelledText("empty", "")], "'empty' is empty"),
        (lambda good: [LabelledText("long", "rain " * 300)], "'long' has"),
    ],
)
def test_bad_texts(model, tmp_path, change, word):
    with pytest.raises(UserError, match=word):
        collect(model, change(texts(2)), tmp_path / "s.h5")
    assert not list(tmp_path.iterdir())


def test_texts_are_encoded_alike_one_by_one_and_at_once(model):
    words = [text.text for text in texts()]
    assert model.encode_batch(words) == [model.encode(word) for word in words]


def test_unknown_site(model, tmp_path):
    with pytest.raises(UserError, match="blocks.9"):
        collect(model, texts(2), tmp_path / "s.h5", layers=["blocks.9.hook_resid_post"])
