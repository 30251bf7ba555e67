"""Sampling with given numbers: frequencies, bans, stops, and independence of the batch."""

import numpy as np
import pytest
import torch
from activations.fake_model import FakeModel

from emocircuits.activations.sampling import choose, sample_continuations
from tests.conftest import real_model


def test_choose_inverts_the_cumulative_distribution():
    logits = torch.tensor([[0.2, 0.3, 0.5]]).log().repeat(6, 1)
    uniform = torch.tensor([0.0, 0.199, 0.201, 0.499, 0.501, 0.999], dtype=torch.float64)
    assert choose(logits, uniform, 1.0).tolist() == [0, 0, 1, 1, 2, 2]


def test_choose_has_the_right_frequencies():
    logits = torch.randn(5)
    uniform = torch.from_numpy(np.random.default_rng(0).random(200_000))
    drawn = torch.bincount(choose(logits.expand(len(uniform), 5), uniform, 0.7), minlength=5) / len(uniform)
    torch.testing.assert_close(drawn, (logits / 0.7).softmax(-1), rtol=0, atol=4e-3)


def test_choose_never_takes_a_banned_token():
    logits, banned = torch.zeros(1000, 4), torch.tensor([False, True, False, True]).expand(1000, 4)
    uniform = torch.from_numpy(np.random.default_rng(0).random(1000))
    assert set(choose(logits, uniform, 1.0, banned=banned).tolist()) == {0, 2}
    assert set(choose(logits + torch.tensor([0.0, 9, 1, 9]), uniform, 0.0, banned=banned).tolist()) == {2}


def test_rows_do_not_depend_on_their_batch():
    model = FakeModel()
    prompts = [[0, 2], [0, 3, 4, 5, 6], [0, 9, 9]]
    uniforms = [np.random.default_rng(row).random(4 + 3 * row) for row in range(3)]
    together = sample_continuations(model, prompts, uniforms, stop=(1,))
    alone = [sample_continuations(model, [prompts[row]], [uniforms[row]], stop=(1,))[0] for row in range(3)]
    assert together == alone


def test_stop_token_ends_a_text():
    model = FakeModel()
    model.table[:, 1] = 50.0
    assert sample_continuations(model, [[0, 2], [0, 3, 4]], [np.full(5, 0.5)] * 2, stop=(1,)) == [[], []]


def test_as_many_tokens_as_numbers():
    made = sample_continuations(
        FakeModel(), [[0, 2], [0, 3, 4], [0, 5]], [np.full(5, 0.5), np.full(1, 0.5), np.zeros(0)]
    )
    assert [len(tokens) for tokens in made] == [5, 1, 0]


@pytest.mark.real_model
def test_cached_sampling_equals_whole_forwards(tmp_path):
    from emocircuits.models.loader import load_model

    model = load_model(str(real_model("tinystories-sp2M")), trust_remote_code=True)
    prompts = [model.encode("Tim lost his hat. He"), model.encode("Lily and Tom got a big cake. She was")]
    uniforms = list(np.random.default_rng(0).random((2, 12)))
    for row, written in enumerate(sample_continuations(model, prompts, uniforms)):
        tokens = torch.tensor([prompts[row]])
        for step in range(12):
            with torch.no_grad():
                chosen = choose(model.bridge(tokens)[:, -1], torch.tensor([uniforms[row][step]]), 1.0)
            tokens = torch.cat([tokens, chosen[:, None]], dim=1)
        assert written == tokens[0, len(prompts[row]) :].tolist()


def test_top_p_draws_from_the_likeliest_alone():
    logits = torch.tensor([[0.1, 0.4, 0.3, 0.2]]).log()
    uniform = torch.linspace(0, 0.999, 1000, dtype=torch.float64)
    for top_p, allowed in (
        (0.3, {1}),
        (0.4, {1}),
        (0.41, {1, 2}),
        (0.7, {1, 2}),
        (0.75, {1, 2, 3}),
        (1.0, {0, 1, 2, 3}),
    ):
        drawn = choose(logits.expand(1000, 4), uniform, 1.0, top_p=top_p)
        assert set(drawn.tolist()) == allowed
    drawn = choose(logits.expand(1000, 4), uniform, 1.0, top_p=0.6)
    assert float((drawn == 1).double().mean()) == pytest.approx(4 / 7, abs=2e-3)
