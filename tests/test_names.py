"""Node ids: print and parse are inverse, ids of different kinds never collide, nonsense is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emocircuits.errors import UserError
from emocircuits.names import (
    NodeId,
    chosen_layers,
    depth_of,
    format_node,
    parse_node,
    residual_site,
    sites_of,
)

numbers = st.integers(0, 10**6)
positions = st.none() | numbers
sites = st.builds(
    lambda layer, hook: f"blocks.{layer}.hook_{hook}",
    st.integers(0, 200),
    st.sampled_from(["resid_post", "resid_pre", "resid_mid", "attn_out", "mlp_out"]),
)
components = (
    st.sampled_from(["embed", "pos"])
    | st.builds("m{}".format, numbers)
    | st.builds("a{}.h{}{}".format, numbers, numbers, st.sampled_from(["", "<q>", "<k>", "<v>"]))
)
ids = (
    st.builds(lambda s, f, p: NodeId("feature", site=s, feature=f, position=p), sites, numbers, positions)
    | st.builds(lambda s, p: NodeId("error", site=s, position=p), sites, positions)
    | st.builds(lambda p: NodeId("token", position=p), numbers)
    | st.builds(lambda n: NodeId("direction", name=n), st.from_regex(r"\A[A-Za-z0-9_.-]+\Z"))
    | st.builds(lambda n: NodeId("target", name=n), st.from_regex(r"\A[A-Za-z0-9_.-]+\Z"))
    | st.builds(lambda n, p: NodeId("component", name=n, position=p), components, positions)
)


@given(ids)
def test_parse_is_the_inverse_of_format(node):
    text = format_node(node)
    assert parse_node(text) == node
    assert ":" not in text


@given(ids, ids)
def test_ids_are_unique_across_kinds(one, other):
    assert (format_node(one) == format_node(other)) == (one == other)


def test_the_written_forms():
    site = "blocks.2.hook_resid_post"
    assert format_node(NodeId("feature", site=site, feature=123, position=17)) == f"feature/{site}/123/p17"
    assert format_node(NodeId("error", site=site)) == f"error/{site}"
    assert parse_node("a2.h3<q>").layer == 2
    assert parse_node("m11").layer == 11
    assert parse_node("embed").layer is None
    assert parse_node(f"feature/{site}/123").at(4) == parse_node(f"feature/{site}/123/p4")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "feature",
        "feature/blocks.2.hook_resid_post",
        "feature/blocks.2.hook_resid_post/-1",
        "feature/blocks.2.hook_resid_post/01",
        "feature/nowhere/3",
        "error/blocks.2.hook_resid_post/3",
        "token",
        "token/5",
        "token/p-1",
        "target/logit diff",
        "target/a/p3",
        "a2",
        "a2.h3<z>",
        "m2/p",
        "embed/x",
        "feature/blocks.2.hook_resid_post/3/p1/p2",
    ],
)
def test_nonsense_is_refused(text):
    with pytest.raises(UserError):
        parse_node(text)


@pytest.mark.parametrize(
    "parts",
    [
        {"kind": "thing"},
        {"kind": "feature", "site": "blocks.0.hook_resid_post"},
        {"kind": "token"},
        {"kind": "target", "name": "x", "position": 3},
        {"kind": "error", "site": "blocks.0.hook_resid_post", "feature": 2},
        {"kind": "feature", "site": "blocks.0.hook_resid_post", "feature": -2},
    ],
)
def test_impossible_parts_are_refused(parts):
    with pytest.raises(UserError):
        NodeId(**parts)


def test_layers_are_numbers_or_sites():
    sites = tuple(map(residual_site, range(3)))
    assert sites_of(None, sites) == sites
    assert sites_of([2, sites[0]], sites) == (sites[2], sites[0])
    for wrong in (3, "blocks.7.hook_resid_post", "blocks.1.hook_resid_pre"):
        with pytest.raises(UserError, match="unknown site"):
            sites_of([wrong], sites)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ((), tuple(range(30))),
        ((10, 15, 20), (10, 15, 20)),
        ((20, 10, 10.0), (10, 20)),
        ((0.5, 2 / 3), (14, 19)),
        ((0, 0.001, 29), (0, 29)),
    ],
)
def test_layers_by_number_or_depth(wanted, found):
    assert chosen_layers(wanted, 30) == found
    assert all(
        depth_of(residual_site(layer), 30) >= value - 1e-9
        for value, layer in zip(sorted(wanted), found, strict=False)
        if 0 < value < 1
    )


@pytest.mark.parametrize("wrong", [30, -1, 1.5])
def test_layers_that_the_model_does_not_have(wrong):
    with pytest.raises(
        UserError, match=f"layers names {wrong:g}; expected blocks 0 to 29, or fractions of depth"
    ):
        chosen_layers((3, wrong), 30)
