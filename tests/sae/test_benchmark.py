"""The benchmark of SAE training runs and compares like with like (no time is asserted here)."""

import torch

from tests.benchmarks.sae import Case, ratios, rows_like_activations, six_products


def test_it_runs_at_a_tiny_size():
    result = ratios(Case("tiny", "batchtopk", 16, 64, 48, {"ours": 1.0}), rounds=1)
    assert set(result["ratios"]) >= {"ours", "sae-lens"} and all(
        one["ratio"] > 0 for one in result["ratios"].values()
    )
    assert set(result["skipped"]) <= {"dictionary_learning", "sparsify"} and all(result["skipped"].values())


def test_the_unit_is_six_products_of_the_case():
    calls, real = [], torch.mm

    def mm(left, right, **options):
        calls.append((*left.shape, right.shape[1]))
        return real(left, right, **options)

    torch.mm = mm
    try:
        six_products(Case("", "topk", 8, 40, 24, {}))(torch.randn(24, 8))
    finally:
        torch.mm = real
    assert len(calls) == 6 and all(m * n * k == 24 * 8 * 40 for m, n, k in calls)


def test_rows_vary_and_have_a_mean():
    x = rows_like_activations(500, 16)
    assert x.shape == (500, 16) and x.std() > 0.1 and abs(x.mean() - 1) < 0.5
