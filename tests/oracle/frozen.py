"""A forward pass of a TransformerLens model in which attention patterns, norm scales and what activations
multiply by are constants.

Such a pass is affine in the residual stream, so real interventions in it are what gradients with the same
things frozen must give.
"""

from contextlib import contextmanager

import torch


@contextmanager
def frozen(model, tokens):
    """Holds patterns, scales and the ratio of each activation to its input at their values on `tokens`."""
    _, cache = model.run_with_cache(tokens)
    hooks, pre = [], {}
    for name, value in cache.items():
        if name.endswith(("hook_pattern", "hook_scale")):
            hooks.append((name, lambda x, hook, value=value: value))
        if name.endswith("mlp.hook_pre"):
            hooks.append((name, lambda x, hook: pre.__setitem__(hook.name, x) or x))
            post = cache[name.replace("hook_pre", "hook_post")]
            # RelP keeps away from zero, too
            ratio = post / (value + 1e-6 * (2 * (value >= 0).to(value.dtype) - 1))
            hooks.append(
                (
                    name.replace("hook_pre", "hook_post"),
                    lambda x, hook, name=name, post=post, value=value, ratio=ratio: (
                        post + ratio * (pre[name] - value)
                    ),
                )
            )
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        yield cache
