"""Sparse kernels against sae-lens' own dense classes: selection, losses, activations, gradients, whole
training runs.
"""

import pytest
import torch
from sae_lens import (
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    SAETrainer,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
)
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import TrainStepInput

from emocircuits.sae.selection import largest_of_batch, largest_per_row
from emocircuits.sae.training.sparse_training import SparseBatchTopKTrainingSAE, SparseTopKTrainingSAE

D = 24
KINDS = {
    "topk": (TopKTrainingSAE, SparseTopKTrainingSAE, TopKTrainingSAEConfig),
    "batchtopk": (BatchTopKTrainingSAE, SparseBatchTopKTrainingSAE, BatchTopKTrainingSAEConfig),
}
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}


def pair(kind, dtype, *, d_sae=1024, k=6, kernel="sparse", **options):
    """The same weights in sae-lens' class and in ours; norms and biases are not what they start as."""
    dense_class, sparse_class, config = KINDS[kind]
    dense = dense_class(config(d_in=D, d_sae=d_sae, k=k, dtype=dtype, aux_loss_coefficient=0.5, **options))
    sparse = sparse_class(
        config(d_in=D, d_sae=d_sae, k=k, dtype=dtype, aux_loss_coefficient=0.5, **options), kernel=kernel
    )
    with torch.no_grad():
        dense.W_dec.mul_(torch.rand(d_sae, 1, dtype=dense.W_dec.dtype) * 3 + 0.5)
        for name in ("W_enc", "b_enc", "b_dec"):
            value = getattr(dense, name)
            value.add_(torch.randn_like(value) * 0.3)
    sparse.load_state_dict(dense.state_dict())
    return dense, sparse


def step(sae, x, dead):
    output = sae.training_forward_pass(
        TrainStepInput(
            sae_in=x, coefficients={}, dead_neuron_mask=dead, n_training_steps=0, is_logging_step=False
        )
    )
    sae.zero_grad()
    output.loss.backward()
    return output


def close(left, right, tolerance):
    assert (left - right).abs().max() <= tolerance * right.abs().max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("n_dead", [0, 1, 7, 60, 700])
@pytest.mark.parametrize("rescale", [True, False])
def test_losses_activations_and_gradients_are_those_of_sae_lens(kind, dtype, n_dead, rescale):
    dense, sparse = pair(kind, dtype, rescale_acts_by_decoder_norm=rescale)
    x = torch.randn(64, D, dtype=dense.W_enc.dtype) * 2 + 1
    dead = torch.zeros(1024, dtype=torch.bool)
    dead[torch.randperm(1024)[:n_dead]] = True
    theirs, ours = step(dense, x, dead), step(sparse, x, dead)
    tolerance = TOLERANCE[dtype]
    acts = ours.feature_acts.to_dense()
    assert torch.equal(acts != 0, theirs.feature_acts != 0)
    close(acts, theirs.feature_acts, tolerance)
    close(ours.sae_out, theirs.sae_out, tolerance)
    for name, loss in theirs.losses.items():
        assert ours.losses[name].item() == pytest.approx(loss.item(), rel=tolerance)
    for (name, mine), (_, reference) in zip(sparse.named_parameters(), dense.named_parameters(), strict=True):
        assert mine.grad.shape == reference.grad.shape, name
        close(mine.grad, reference.grad, tolerance)
    if kind == "batchtopk":
        assert float(sparse.topk_threshold) == pytest.approx(float(dense.topk_threshold), rel=tolerance) != 0


@pytest.mark.parametrize("kind", KINDS)
def test_without_centring_the_decoder_bias_only_decodes(kind):
    dense, sparse = pair(kind, "float64", apply_b_dec_to_input=False)
    x, dead = torch.randn(40, D, dtype=torch.float64), torch.arange(1024) % 3 == 0
    theirs, ours = step(dense, x, dead), step(sparse, x, dead)
    assert ours.loss.item() == pytest.approx(theirs.loss.item(), rel=1e-12)
    for mine, reference in zip(sparse.parameters(), dense.parameters(), strict=True):
        close(mine.grad, reference.grad, 1e-12)


def test_a_shut_relu_passes_no_gradient_and_does_not_count_as_fired():
    dense, sparse = pair("topk", "float64", k=64)
    with torch.no_grad():
        for sae in (dense, sparse):
            sae.b_enc.sub_(6.0)
    x = torch.randn(32, D, dtype=torch.float64)
    theirs, ours = step(dense, x, None), step(sparse, x, None)
    fired = theirs.feature_acts.bool().float()
    assert 0 < fired.sum() < 32 * 64
    for dim in (0, -2, 1, -1):
        assert torch.equal(ours.feature_acts.bool().float().sum(dim).double(), fired.sum(dim).double())
    for mine, reference in zip(sparse.parameters(), dense.parameters(), strict=True):
        close(mine.grad, reference.grad, 1e-12)


@pytest.mark.parametrize(
    ("width", "k"), [(1024, 32), (4096, 32), (4096, 1), (1536, 7), (1023, 5), (1021 * 3, 4), (64, 64)]
)
def test_grouped_selection_is_topk(width, k):
    hidden = torch.randn(33, width, dtype=torch.float64)
    hidden[0] = hidden[0].sort(descending=True).values
    hidden[1] = hidden[1].sort().values - 9
    chosen = largest_per_row(hidden, k)
    expected = torch.topk(hidden, k)
    values, order = chosen.values.view(33, k).sort(descending=True)
    assert torch.equal(values, expected.values)
    assert torch.equal(chosen.features.view(33, k).gather(1, order), expected.indices)
    assert torch.equal(hidden[chosen.rows, chosen.features], chosen.values)
    assert chosen.rows.tolist() == [row for row in range(33) for _ in range(k)]


@pytest.mark.parametrize("width", [96, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equal_elements_at_the_edge(width, dtype):
    """Few distinct values, whole rows of one value, infinities and NaN: still k places per row, with topk's
    values.
    """
    hidden = torch.randint(-2, 3, (40, width)).to(dtype)
    hidden[3], hidden[4, :7], hidden[5, 5] = 1.0, float("inf"), float("nan")
    chosen = largest_per_row(hidden, 6)
    expected = torch.topk(hidden, 6).values
    values = chosen.values.view(40, 6).sort(descending=True).values
    clear = torch.arange(40) != 5
    assert torch.equal(values[clear], expected[clear]) and values[5].isnan().any()
    for row in chosen.features.view(40, 6):
        assert len(row.unique()) == 6


@pytest.mark.parametrize("guess", [0.0, 1.0, 2.0, 50.0])
def test_batch_selection_does_not_depend_on_the_guess(guess):
    hidden = torch.randn(50, 300)
    chosen, last = largest_of_batch(hidden, 400, guess)
    expected = torch.topk(hidden.flatten(), 400)
    assert last == expected.values.min() and torch.equal(
        chosen.values.sort(descending=True).values, expected.values
    )
    flat = chosen.rows * 300 + chosen.features
    # in order: sums come out the same whatever the guess
    assert torch.equal(flat, expected.indices.sort().values)


def test_batch_selection_with_equal_values_and_too_few_positive_ones():
    hidden = torch.tensor([[1.0, 2.0, 2.0, 2.0], [2.0, 0.0, -1.0, 3.0]])
    chosen, last = largest_of_batch(hidden, 3, 0.0)
    assert chosen.values.tolist() == [2.0, 2.0, 3.0] and last == 2.0
    everything, last = largest_of_batch(hidden, 8, 1.5)
    assert sorted(everything.values.tolist()) == [1.0, 2.0, 2.0, 2.0, 2.0, 3.0] and last == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_through_saetrainer_follows_the_dense_one(kind):
    """40 steps in float64: weights, firing counters and dead features agree to rounding."""
    dense, sparse = pair(kind, "float64", d_sae=256, k=3)
    rows = torch.randn(40, 128, D, dtype=torch.float64)
    trainers = []
    for sae in (dense, sparse):
        config = SAETrainerConfig(
            total_training_samples=40 * 128,
            train_batch_size_samples=128,
            lr=3e-3,
            lr_end=3e-4,
            lr_warm_up_steps=5,
            lr_decay_steps=10,
            dead_feature_window=5,
            feature_sampling_window=20,
        )
        trainer = SAETrainer(config, sae, iter(rows))
        trainer.fit()
        trainers.append(trainer)
    theirs, ours = trainers
    assert torch.equal(theirs.act_freq_scores, ours.act_freq_scores) and theirs.act_freq_scores.sum() > 0
    assert torch.equal(theirs.n_forward_passes_since_fired, ours.n_forward_passes_since_fired)
    assert theirs.dead_neurons.any()
    for (name, mine), (_, reference) in zip(sparse.named_parameters(), dense.named_parameters(), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-7, atol=1e-9, msg=name)


def test_what_the_kernels_do_not_cover_takes_the_dense_path():
    dense, sparse = pair("topk", "float32")
    x = torch.randn(16, D)
    assert step(sparse, x, None).feature_acts.__class__.__name__ == "SelectedActs"
    seen = []
    sparse.hook_sae_acts_post.add_hook(lambda value, hook: seen.append(value))
    assert isinstance(step(sparse, x, None).feature_acts, torch.Tensor) and len(seen) == 1
    sparse.reset_hooks()
    assert isinstance(step(sparse, x.clone().requires_grad_(), None).feature_acts, torch.Tensor)
    sparse.kernel = "auto"
    assert isinstance(step(sparse, x, None).feature_acts, torch.Tensor)  # too small to pay
    big = SparseTopKTrainingSAE(TopKTrainingSAEConfig(d_in=D, d_sae=4096, k=32))
    assert not isinstance(step(big, torch.randn(512, D), None).feature_acts, torch.Tensor)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_search_keeps_exact_activations(kind):
    _, sparse = pair(kind, "float32")
    x = torch.randn(64, D)
    exact = step(sparse, x, None).feature_acts.to_dense()
    sparse.encoder_dtype = torch.bfloat16
    coarse = step(sparse, x, torch.arange(1024) % 2 == 0).feature_acts.to_dense()
    both = (exact != 0) & (coarse != 0)
    assert both.sum() > 0.95 * (exact != 0).sum()
    torch.testing.assert_close(coarse[both], exact[both], rtol=1e-5, atol=1e-5)


def test_saved_pairs_are_plain(tmp_path):
    from sae_lens import SAE

    dense, sparse = pair("topk", "float32")
    for sae, name in ((dense, "dense"), (sparse, "sparse")):
        sae.save_inference_model(tmp_path / name)
    x = torch.randn(9, D)
    left, right = (SAE.load_from_disk(tmp_path / name) for name in ("dense", "sparse"))
    assert torch.equal(left.W_enc, right.W_enc) and right.W_enc.is_contiguous()
    assert torch.equal(left(x), right(x))
