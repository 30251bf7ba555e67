"""Every registered family loads through the same code, passes its checks, and agrees with Hugging Face run
apart.
"""

import pytest
import torch
from transformers import AutoModelForCausalLM

from emocircuits.models import FAMILIES, load_model
from emocircuits.models.tiny import write_tiny_model
from emocircuits.passes.resume import stream_at


@pytest.fixture(scope="module", params=FAMILIES.names())
def family(request, tmp_path_factory):
    directory = write_tiny_model(request.param, tmp_path_factory.mktemp(request.param), words=("cheat",))
    return request.param, directory, load_model(str(directory))


def test_logits_and_residuals_equal_hugging_face(family):
    """The oracle is a second copy of the model with plain PyTorch, no bridge."""
    _, directory, model = family
    plain = AutoModelForCausalLM.from_pretrained(directory, attn_implementation="eager").eval()
    tokens = torch.randint(3, model.d_vocab, (2, 17))
    with torch.no_grad():
        out = plain(tokens, output_hidden_states=True)
        found = model.bridge(tokens)
    assert (found - out.logits).abs().max() <= 2e-6 * max(1, out.logits.abs().max())
    # Hugging Face applies the final norm to the last hidden state
    for layer, site in enumerate(model.sites[:-1]):
        expected = out.hidden_states[layer + 1]
        assert torch.allclose(
            stream_at(model.bridge, tokens, site), expected, atol=1e-5 * float(expected.abs().max())
        )
