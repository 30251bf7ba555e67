"""Ablations against the model, the baseline and splices."""

import pytest
import torch
from interventions.bridges import native_bridge
from planted.paper_model import random_batch, random_model, random_saes

from emocircuits.interventions.ablate import Keep, NodeValues, keep_only
from emocircuits.interventions.splice import splice
from emocircuits.passes.edit import edited
from emocircuits.sae.dictionary import open_dictionaries


@pytest.fixture(scope="module")
def bridge():
    return native_bridge()


@pytest.fixture(params=["bridge", "hooked_transformer"])
def model(request):
    return (
        request.getfixturevalue("bridge") if request.param == "bridge" else random_model(dtype=torch.float32)
    )


def test_ablating_everything_or_nothing_is_the_baseline_or_the_model():
    model, saes, batch = random_model(), random_saes("topk", 3, 12), random_batch(3)
    dictionaries = open_dictionaries(saes)
    streams = {}
    readers = {site: lambda x, site=site: streams.setdefault(site, x) for site in saes}
    with edited(model, readers, what="read", must_change=False):
        corrupt = model(batch.corrupt)
    baseline = {}
    for site, x in streams.items():
        features = dictionaries[site].encode(x)
        baseline[site] = NodeValues(features, x - dictionaries[site].decode(features))
    for value, wanted in ((True, model(batch.clean)), (False, corrupt)):
        keep = {site: Keep(torch.full((1, 24), value), torch.tensor([value])) for site in saes}
        with keep_only(model, saes, keep, baseline):
            torch.testing.assert_close(model(batch.clean), wanted, atol=1e-9, rtol=0)


def test_keep_only_equals_the_splice_with_replaced_leaves():
    """The fast closed form against the splice, with a random half of the nodes kept per row."""
    model, saes, batch = random_model(), random_saes("jumprelu", 3, 12), random_batch(6)
    keep = {site: Keep(torch.rand(6, 24) < 0.5, torch.tensor([True, False] * 3)) for site in saes}
    baseline = {
        site: NodeValues(
            torch.rand(6, 7, 24, dtype=torch.float64), torch.randn(6, 7, 12, dtype=torch.float64)
        )
        for site in saes
    }

    def replace_at(site):
        return lambda f, e: (
            torch.where(keep[site].features[:, None], f, baseline[site].features),
            torch.where(keep[site].error[:, None, None], e, baseline[site].error),
        )

    with splice(model, saes, replace={site: replace_at(site) for site in saes}):
        wanted = model(batch.clean)
    with keep_only(model, saes, keep, baseline):
        torch.testing.assert_close(model(batch.clean), wanted, atol=1e-10, rtol=0)
