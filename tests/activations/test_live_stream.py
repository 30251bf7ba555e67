"""The stream without a store gives the rows a store would give, and any step can be asked for first."""

from contextlib import contextmanager

import numpy as np
import pytest

from emocircuits.activations import LabelledText, collect
from emocircuits.activations.live_stream import LiveSettings, LiveStream
from emocircuits.activations.residuals import encode_texts
from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.errors import UserError
from emocircuits.models import load_model
from emocircuits.models.tiny import SAMPLE, write_tiny_model

WORDS = " ".join(SAMPLE).split()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(str(write_tiny_model("llama", tmp_path_factory.mktemp("llama"))))


@pytest.fixture(scope="module")
def texts():
    source = np.random.default_rng(0)
    return [LabelledText(f"t{i}", " ".join(source.choice(WORDS, source.integers(1, 16)))) for i in range(40)]


@pytest.fixture(scope="module")
def tokens(model, texts):
    return encode_texts(model, texts)


@pytest.mark.parametrize("window", [1, 30, 100, 100_000])
def test_an_epoch_holds_every_row_once_at_every_site(model, texts, tokens, tmp_path, window):
    store = collect(model, texts, tmp_path / "s.h5", dtype="float32")
    banned = int(store.tokens[7])
    rows = np.flatnonzero((store.positions > 0) & (store.tokens != banned))
    stream = LiveStream(
        model,
        tokens,
        model.sites,
        16,
        5,
        LiveSettings(skip_tokens=(banned,), window=window, dtype="float32", batch_tokens=64),
    )
    assert stream.n_rows == len(rows)
    steps = -(-2 * len(rows) // 16)
    drawn = {
        site: np.concatenate([stream.batch(step)[site] for step in range(steps)]) for site in model.sites
    }
    keys = {site: np.linalg.norm(store.read(site, rows), axis=1) for site in model.sites}
    for epoch in range(2):
        place = slice(epoch * len(rows), (epoch + 1) * len(rows))
        order = np.argsort(np.linalg.norm(drawn[model.sites[0]][place], axis=1))
        by_norm = np.argsort(keys[model.sites[0]])
        for site in model.sites:  # one order for all sites: row for row the same tokens
            expected = store.read(site, rows)[by_norm]
            np.testing.assert_allclose(
                drawn[site][place][order], expected, atol=1e-4 * np.abs(expected).max()
            )
    first = drawn[model.sites[0]]
    assert not np.allclose(first[: len(rows)], first[len(rows) : 2 * len(rows)])


def test_a_batch_is_a_pure_function_of_seed_and_step(model, tokens):
    def stream(seed=5, sites=model.sites):
        return LiveStream(model, tokens, sites, 16, seed, LiveSettings(window=60, batch_tokens=64))

    forward = stream()
    batches = [forward.batch(step) for step in range(30)]
    jumping = stream()
    for step in (29, 3, 17, 0, 28):
        for site in model.sites:
            np.testing.assert_array_equal(jumping.batch(step)[site], batches[step][site])
    assert not np.array_equal(stream(6).batch(0)[model.sites[0]], batches[0][model.sites[0]])
    np.testing.assert_array_equal(next(stream().batches(7))[model.sites[1]], batches[7][model.sites[1]])
    bits = batches[0][model.sites[0]].view(np.uint32)
    assert not (bits & 0xFFFF).any()  # bfloat16, as in a store


def test_only_one_window_of_texts_is_run_at_a_time(model, tokens, monkeypatch):
    from emocircuits.activations import live_stream as module

    real, seen = module.row_reader, []

    @contextmanager
    def counted(*arguments):
        with real(*arguments) as read:
            yield lambda batch: (seen.append(sum(map(len, batch))), read(batch))[1]

    monkeypatch.setattr(module, "row_reader", counted)
    stream = LiveStream(model, tokens, model.sites[:1], 4, 0, LiveSettings(window=50, batch_tokens=64))
    stream.batch(0)
    assert 30 <= sum(seen) <= 130  # one window, not the corpus
    seen.clear()
    stream.batch(1)
    assert not seen


def test_wrong_input(model, tokens):
    for change, word in (
        ({"sites": ["blocks.9.hook_resid_post"]}, "unknown site"),
        ({"settings": LiveSettings(dtype="float16")}, "unknown dtype 'float16'"),
        ({"tokens": [tokens[0], tokens[0][:0]]}, "text number 1 has no tokens"),
        ({"tokens": [np.zeros(model.n_ctx + 1, dtype=np.int64)]}, "text number 0 has too many tokens"),
        ({"settings": LiveSettings(skip_positions=99)}, "no rows to draw from"),
        ({"batch_size": 0}, "batch_size 0"),
    ):
        arguments = {"tokens": tokens, "sites": model.sites, "batch_size": 8, "seed": 0, **change}
        with pytest.raises(UserError, match=word):
            LiveStream(model, **arguments)


def test_the_store_is_not_needed(model, tokens, tmp_path, monkeypatch):
    monkeypatch.setattr(ActivationStore, "open", None)
    monkeypatch.chdir(tmp_path)
    LiveStream(model, tokens, model.sites, 8, 0).batch(0)
    assert not list(tmp_path.iterdir())
