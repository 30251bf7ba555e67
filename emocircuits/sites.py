"""Sites: where activations are read. A site is named by its TransformerLens hook, e.g.
`blocks.2.hook_resid_post`.
"""

import re

from emocircuits.errors import UserError

_SITE = re.compile(r"^blocks\.(\d+)\.hook_(resid_post|resid_pre|resid_mid|attn_out|mlp_out)$")


def residual_site(layer: int) -> str:
    """The residual stream after block `layer` (0 is the first block)."""
    return f"blocks.{layer}.hook_resid_post"


def layer_of(site: str) -> int:
    """The block a site belongs to.

    Raises:
        UserError: the text is not the name of a site.
    """
    return int(_match(site)[1])


def short_site(site: str) -> str:
    """A short form for tables and labels, e.g. `resid_post.2`."""
    found = _match(site)
    return f"{found[2]}.{found[1]}"


def _match(site: str) -> re.Match:
    found = _SITE.match(site)
    if found is None:
        raise UserError(f"'{site}' is not a site", expected="a hook name such as blocks.2.hook_resid_post")
    return found
