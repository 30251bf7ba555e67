"""Perplexity under a push against cross-entropy."""

import numpy as np
import pytest
import torch
from experiments.steering_world import directions, prompts
from fixtures.make_directions import push_along

from emocircuits.experiments.coherence import CoherenceSettings, coherence
from emocircuits.interventions.steer import steer
from emocircuits.models import load_model
from emocircuits.models.tiny import write_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(str(write_tiny_model("llama", tmp_path_factory.mktemp("llama"))))


def test_coherence_equals_cross_entropy(model):
    texts, chosen = prompts(model), directions(model)[:2]
    table = coherence(model, texts, chosen, CoherenceSettings(strengths=(0.0, 0.4), batch_tokens=16))
    for line in table.itertuples():
        vector = next(direction.vector for direction in chosen if direction.name == line.direction)
        nats, count = 0.0, 0
        for text in texts:
            tokens = torch.tensor([text])
            with torch.no_grad(), steer(model.bridge, push_along(model.sites[1], vector, line.strength, 2.0)):
                logits = model.bridge(tokens)
            nats += float(torch.nn.functional.cross_entropy(logits[0, :-1], tokens[0, 1:], reduction="sum"))
            count += len(text) - 1
        assert line.nats_per_token == pytest.approx(nats / count, rel=1e-5)
        assert line.perplexity == pytest.approx(np.exp(nats / count), rel=1e-4)
