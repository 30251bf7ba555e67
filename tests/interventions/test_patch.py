"""A patch adds to a site or replaces it."""

import pytest
import torch
from interventions.bridges import native_bridge
from planted.paper_model import random_batch, random_model

from emocircuits.interventions import patch
from emocircuits.names import residual_site
from emocircuits.passes.edit import edited

SITE = residual_site(1)


@pytest.fixture(scope="module")
def bridge():
    return native_bridge()


@pytest.fixture(params=["bridge", "hooked_transformer"])
def model(request):
    return (
        request.getfixturevalue("bridge") if request.param == "bridge" else random_model(dtype=torch.float32)
    )


def test_patch_adds_and_replaces(model):
    clean, corrupt = random_batch(3).clean, random_batch(3).corrupt
    streams = {}
    with edited(
        model, {SITE: lambda x: streams.setdefault("clean", x.detach())}, what="read", must_change=False
    ):
        wanted = model(clean)
    with patch.replace(model, SITE, streams["clean"]):
        replaced = model(corrupt)
    assert (replaced - wanted).abs().max() < 1e-5
    with edited(
        model, {SITE: lambda x: streams.setdefault("corrupt", x.detach())}, what="read", must_change=False
    ):
        model(corrupt)
    with patch.add(model, SITE, streams["clean"] - streams["corrupt"]):
        added = model(corrupt)
    assert (added - wanted).abs().max() < 1e-4
    with patch.add(model, SITE, torch.zeros(3, 7, 12)):
        assert torch.equal(model(corrupt), model(corrupt))
