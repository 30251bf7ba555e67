"""Passes that begin after what two prompts share give what whole passes give, on every family."""

import pytest
import torch

from emocircuits.models import FAMILIES, load_model
from emocircuits.models.tiny import write_tiny_model
from emocircuits.passes import from_site
from emocircuits.passes.from_site import FromSite
from emocircuits.passes.prompt_pairs import PairBatch, PromptPairs
from emocircuits.passes.resume import resume, stream_at
from emocircuits.passes.shared_prefix import SharedPrefix, shared_length
from emocircuits.passes.task import Task

SITE, SHARED = "blocks.0.hook_resid_post", 6


def metric(logits):
    return logits[:, -1, 5] - logits[:, -1, 7]


@pytest.fixture
def task(tmp_path, request):
    model = load_model(str(write_tiny_model(request.param, tmp_path)), checks=False).bridge
    source = torch.Generator().manual_seed(1)
    clean = torch.randint(3, 200, (3, 14), generator=source)
    corrupt = clean.clone()
    corrupt[:, SHARED:] = torch.randint(3, 200, (3, 14 - SHARED), generator=source)
    corrupt[1, SHARED] = clean[1, SHARED]  # one pair has more in common
    corrupt[0, SHARED] = (clean[0, SHARED] + 1) % 200
    return Task(model, PromptPairs((PairBatch(clean, corrupt, torch.arange(3)),)), metric)


@pytest.mark.parametrize("task", FAMILIES.names(), indirect=True)
def test_values_and_gradients_are_those_of_whole_passes(task):
    batch = next(task.batches())
    short, whole = (FromSite.of(task, batch, prefix=prefix) for prefix in (True, False))
    assert whole.prefix is None
    rows = torch.tensor([2, 0, 1, 2])
    tokens = batch.clean[rows]
    stream = stream_at(task.model, tokens, SITE)
    stream[:, SHARED:] += torch.randn(4, 14 - SHARED, stream.shape[2])
    found = []
    for way in (short, whole):
        leaf = stream.clone().requires_grad_()
        value = way(tokens, batch.index[rows], SITE, leaf, rows=rows)
        (grad,) = torch.autograd.grad(value.sum(), leaf)
        found.append((value.detach(), grad[:, SHARED:]))
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))
    assert float(found[0][1].abs().max()) > 0


@pytest.mark.parametrize("task", FAMILIES.names(), indirect=True)
@pytest.mark.parametrize("first", [SHARED, 9, 13])
def test_a_patched_run_may_start_where_its_patch_does(task, first):
    batch = next(task.batches())
    whole = FromSite.of(task, batch)
    patched = FromSite.of(task, batch, prefix=True).patched(batch.corrupt)
    rows = torch.tensor([2, 0, 1, 2])
    tokens, stream = batch.corrupt[rows], stream_at(task.model, batch.corrupt, SITE)[rows]
    unpatched = whole(tokens, batch.index[rows], SITE, stream)
    stream[:, first:] += torch.randn(4, 14 - first, stream.shape[2])
    expected = whole(tokens, batch.index[rows], SITE, stream)
    got = patched(tokens, batch.index[rows], SITE, stream, rows=rows, start=first)
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(unpatched, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", ["llama", "gpt2"], indirect=True)
def test_the_prefix_is_used_where_the_model_can(task, monkeypatch):
    batch = next(task.batches())
    prefix = SharedPrefix.of(task.model, batch)
    assert prefix is not None and prefix.length == shared_length(batch) == SHARED
    rows = torch.arange(3)
    stream = stream_at(task.model, batch.corrupt, SITE)
    last = f"blocks.{task.model.cfg.n_layers - 1}.hook_resid_post"
    rest = resume(
        task.model,
        batch.corrupt[:, SHARED:],
        SITE,
        stream[:, SHARED:],
        until=last,
        past=prefix.cache(rows, 1),
    )
    patched = FromSite.of(task, batch, prefix=True).patched(batch.corrupt)
    assert patched.prefix is not None and patched.prefix.length == 13
    monkeypatch.setattr(from_site, "MOST_BYTES", patched.prefix.nbytes - 1)
    assert FromSite.of(task, batch, prefix=True).patched(batch.corrupt).prefix.length == SHARED
    expected = resume(task.model, batch.corrupt, SITE, stream, until=last)[:, SHARED:]
    assert torch.allclose(rest, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", ["llama"], indirect=True)
def test_there_is_none_where_it_would_be_wrong(task):
    batch = next(task.batches())
    with task.model.hooks(fwd_hooks=[(SITE, lambda value, hook: value + 1)]):
        assert SharedPrefix.of(task.model, batch) is None
    apart = PairBatch(batch.clean, (batch.clean + 1) % 200, batch.index)
    assert SharedPrefix.of(task.model, apart) is None
    same = PairBatch(batch.clean, batch.clean, batch.index)
    assert shared_length(same) == 13  # the position that is read is always run
