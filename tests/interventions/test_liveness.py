"""Dead and leaking interventions are seen."""

import pytest
import torch
from fixtures.make_directions import push_along
from planted.paper_model import random_batch, random_model

from emocircuits.errors import Failure
from emocircuits.interventions.liveness import check_live
from emocircuits.interventions.steer import steer
from emocircuits.names import residual_site
from emocircuits.passes.edit import edited

SITE = residual_site(1)


@pytest.fixture(scope="module")
def model():
    return random_model(dtype=torch.float32)


def test_liveness_sees_dead_and_leaking_interventions(model):
    tokens = random_batch(2).clean
    change = check_live(
        model, tokens, lambda: steer(model, push_along(SITE, torch.randn(12), 0.5, 4.0)), "steer"
    )
    assert change > 0
    with pytest.raises(Failure, match="changed no logit"):
        check_live(model, tokens, lambda: edited(model, {}, what="nothing"), "nothing")
    with pytest.raises(Failure, match="is over and the logits differ"):
        check_live(model, tokens, lambda: _Leak(model), "leak")
    model.reset_hooks()


class _Leak:
    def __init__(self, model):
        self.model = model

    def __enter__(self):
        self.model.add_hook(SITE, lambda x, hook: x + 1)

    def __exit__(self, *error):
        return None
