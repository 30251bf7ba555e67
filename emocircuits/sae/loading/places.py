"""Where an SAE reads, from the names that projects have for hooks, folders and files.

The residual stream between two blocks has two names, `resid_post` of the block before and `resid_pre` of the
block after; here it is always the former. Hugging Face names a block's output by the block alone
(`model.layers.5`).
"""

import re
from typing import Any

from emocircuits.errors import UserError
from emocircuits.names import residual_site

# words in the names that projects have for a part of a block -> TransformerLens' hook there
PARTS = {
    "resid_pre": "resid_pre",
    "resid_mid": "resid_mid",
    "resid": "resid_post",
    "mlp": "mlp_out",
    "attn": "attn_out",
    "attention": "attn_out",
    "self_attn": "attn_out",
}
LETTERS = {"r": "resid_post", "m": "mlp_out", "a": "attn_out"}  # Llama Scope: L12R, l12r_8x
_BLOCK = re.compile(r"^(?:\w+\.)*?(?:blocks|layers|h)\.(\d+)(?:\.(.+))?$")
_AFTER, _BEFORE = ("", "output", "hook_resid_post", "hook_out"), ("input", "hook_resid_pre", "hook_in")
_HOOK = re.compile(
    r"blocks\.\d+\.(?:attn\.|mlp\.)?hook_(?:resid_pre|resid_mid|resid_post|mlp_out|attn_out|z)"
)
_PART_LAYER = re.compile(r"(resid_pre|resid_mid|resid_post|mlp_out|attn_out|transcoder)\w*[/_]layer_(\d+)")
_LETTER = re.compile(r"(?:^|[-/_])l(\d+)([ram])(?=[-/_]|$)", re.IGNORECASE)


def place_of(hook: str) -> str:
    """A hook name as a site: the residual stream between blocks under the name of the block before it,
    anything else as it is.
    """
    found = _BLOCK.match(hook)
    if found is None:
        return hook
    number, part = int(found[1]), found[2] or ""
    if part in _AFTER:
        return residual_site(number)
    if part in _BEFORE and number > 0:
        return residual_site(number - 1)
    return hook


def place_in_block(layer: Any, part: str) -> str:
    """The place by the number of a block and the name that a project has for a part of it; "" where there is
    no number.
    """
    if _BLOCK.match(part):
        return place_of(part)
    if layer is None:
        return ""
    kinds = [kind for word, kind in PARTS.items() if re.search(rf"(?:^|[._]){word}", part)]
    if part and not kinds:
        return f"'{part}' of block {int(layer)}"
    return place_of(f"blocks.{int(layer)}.hook_{kinds[0] if kinds else 'resid_post'}")


def place_in_name(name: str) -> str:
    """The place that an id or a path in a release names, "" where it names none."""
    hook = _HOOK.search(name)
    if hook is not None:
        return place_of(hook[0])
    part = _PART_LAYER.search(name)
    if part is not None:
        kind = "transcoder" if part[1] == "transcoder" else f"hook_{part[1]}"
        return place_of(f"blocks.{int(part[2])}.{kind}")
    letter = _LETTER.search(name)
    return "" if letter is None else place_of(f"blocks.{int(letter[1])}.hook_{LETTERS[letter[2].lower()]}")


def place_read(config: dict[str, Any]) -> str:
    """The place in the configuration that sae-lens makes of an SAE; "" where it has none."""
    metadata = dict(config.get("metadata") or config)
    hook = str(metadata.get("hook_name") or "")
    writes = str(metadata.get("hook_name_out") or hook)
    if "transcoder" in str(config.get("architecture")) or writes != hook:
        return f"{hook} (a transcoder to {writes})"
    place, same = place_of(hook), place_of(str(metadata.get("hf_hook_name") or ""))
    # a site is believed where Hugging Face's name for the place, if there is one, is the same site
    return same if same and place.endswith("hook_resid_post") else place


def in_words(place: str) -> str:
    """What lies at a place."""
    for pattern, words in (
        (r"transcoder", "MLP, as a transcoder"),
        (r"^blocks\.\d+\.hook_resid_post$", "residual stream"),
        (r"embed|^blocks\.0\.hook_resid_pre$", "embedding"),
        (r"resid_mid", "residual stream inside a block"),
        (r"mlp", "MLP"),
        (r"attn|hook_z", "attention"),
    ):
        if re.search(pattern, place):
            return words
    return "not said"


def check_place(name: str, place: str, site: str) -> None:
    """Refuses an SAE that reads another place than the one it is asked for.

    Args:
        name: the SAE, for the message.
        place: where its names or its configuration say; "" where they say nothing.
        site: what it is asked for.

    Raises:
        UserError: another place.
    """
    if place and place != place_of(site):
        raise UserError(
            f"the SAE {name} was trained on {place}",
            expected=site,
            cure="give it under its own site"
            if place.endswith("hook_resid_post")
            else "take an SAE of that site",
        )
