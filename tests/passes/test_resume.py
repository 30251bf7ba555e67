"""Passes that stop or start in the middle give what whole passes give, on every family, and run no more."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformer_lens import HookedTransformer, HookedTransformerConfig

from emocircuits.errors import UserError
from emocircuits.models import FAMILIES, load_model
from emocircuits.models.tiny import write_tiny_model
from emocircuits.passes.resume import resume, skipped_blocks, stream_at

LAYERS = 3
SITES = [f"blocks.{layer}.hook_resid_{end}" for layer in range(LAYERS) for end in ("pre", "post")]


@pytest.fixture(scope="module", params=[*FAMILIES.names(), "HookedTransformer"])
def model(request, tmp_path_factory):
    if request.param == "HookedTransformer":
        shape = dict(n_layers=LAYERS, d_model=16, n_ctx=12, d_head=8, n_heads=2, d_vocab=20, act_fn="gelu")
        return HookedTransformer(HookedTransformerConfig(**shape)).requires_grad_(False)
    directory = write_tiny_model(request.param, tmp_path_factory.mktemp(request.param), words=("cheat",))
    return load_model(str(directory), checks=False).bridge


@pytest.fixture
def tokens(model):
    return torch.randint(3, model.cfg.d_vocab, (2, 9))


def recorded(model, tokens, hooks=()):
    """Streams at all sites and the logits of one whole pass."""
    streams = {}
    keep = [(site, lambda value, hook, site=site: streams.__setitem__(site, value.clone())) for site in SITES]
    with torch.no_grad(), model.hooks(fwd_hooks=[*hooks, *keep]):
        logits = model(tokens)
    return streams, logits


def close(value, expected):
    return torch.allclose(value, expected, atol=1e-5 * float(expected.abs().max()))


def test_stream_at_equals_a_whole_pass(model, tokens):
    streams, _ = recorded(model, tokens)
    for site in SITES:
        assert close(stream_at(model, tokens, site), streams[site])


def test_stream_at_runs_hooks(model, tokens):
    push = [(SITES[1], lambda value, hook: value + 1)]
    streams, _ = recorded(model, tokens, push)
    for site in (SITES[1], SITES[-1]):
        assert close(stream_at(model, tokens, site, hooks=push), streams[site])


def test_resumed_pass_equals_steered_pass(model, tokens):
    before = model(tokens)
    for number, site in enumerate(SITES):
        push = torch.randn(model.cfg.d_model)
        streams, whole = recorded(model, tokens, [(site, lambda value, hook: value + push)])
        stream = stream_at(model, tokens, site) + push
        assert close(resume(model, tokens, site, stream), whole)
        assert close(resume(model, tokens, site, stream, last=True), whole[:, -1:])
        for later in SITES[number:]:
            assert close(resume(model, tokens, site, stream, until=later), streams[later])
        assert (whole - before).abs().max() > 1e-4
    assert torch.equal(model(tokens), before)


def test_hooks_at_later_sites_run(model, tokens):
    stream, push = stream_at(model, tokens, SITES[1]), torch.randn(model.cfg.d_model)
    hooks = [(SITES[-1], lambda value, hook: value + push)]
    streams, whole = recorded(model, tokens, hooks)
    assert close(resume(model, tokens, SITES[1], stream, hooks=hooks), whole)
    assert close(resume(model, tokens, SITES[1], stream, until=SITES[-1], hooks=hooks), streams[SITES[-1]])


def test_gradients_reach_the_stream(model, tokens):
    stream, push = stream_at(model, tokens, SITES[1]), torch.randn(model.cfg.d_model)

    def metric(logits):
        return logits[:, -1].double().square().sum()

    scale = torch.zeros((), requires_grad=True)
    with model.hooks(fwd_hooks=[(SITES[1], lambda value, hook: value + scale * push)]):
        (expected,) = torch.autograd.grad(metric(model(tokens)), scale)
    for last in (False, True):
        leaf = stream.clone().requires_grad_()
        (slope,) = torch.autograd.grad(metric(resume(model, tokens, SITES[1], leaf, last=last)), leaf)
        assert float((slope * push).sum()) == pytest.approx(float(expected), rel=1e-4)


def multiplications(run):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def test_nothing_else_runs(model, tokens):
    """Two parts of a pass take the multiplications of the whole one; unembedding is saved where not asked
    for.
    """
    n_prompts, length = tokens.shape
    one_unembedding = 2 * n_prompts * model.cfg.d_model * model.cfg.d_vocab
    streams, _ = recorded(model, tokens)
    whole = multiplications(lambda: model(tokens))
    for site, stream in streams.items():
        before = multiplications(lambda: stream_at(model, tokens, site))
        if site == SITES[-1] and not isinstance(model, HookedTransformer):
            before -= one_unembedding  # a bridge cannot stop after its last block
        after = multiplications(lambda: resume(model, tokens, site, stream))
        assert before + after == whole
        last = multiplications(lambda: resume(model, tokens, site, stream, last=True))
        assert after - last == (length - 1) * one_unembedding
        if site != SITES[0]:
            between = multiplications(lambda: resume(model, tokens, SITES[0], streams[SITES[0]], until=site))
            between -= (
                one_unembedding if site == SITES[-1] and not isinstance(model, HookedTransformer) else 0
            )
            assert between == before


def test_only_streams_between_blocks(model, tokens):
    with pytest.raises(UserError, match="hook_mlp_out"):
        stream_at(model, tokens, "blocks.0.hook_mlp_out")
    with pytest.raises(UserError, match="hook_mlp_out"):
        resume(model, tokens, "blocks.0.hook_mlp_out", torch.zeros(2, 9, model.cfg.d_model))


def test_skipped_blocks_come_back_after_an_error(tmp_path):
    model = load_model(str(write_tiny_model("llama", tmp_path)), checks=False).bridge
    tokens = torch.randint(3, model.cfg.d_vocab, (1, 5))
    before = model(tokens)
    with pytest.raises(ZeroDivisionError), skipped_blocks(model, 2):
        raise ZeroDivisionError
    assert torch.equal(model(tokens), before)
