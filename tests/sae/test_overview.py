"""What is told of published SAEs without a file: the loader, the place and whether it opens, of every id; and
the page that says so.
"""

import re
import sys

import pytest
from conftest import ROOT
from sae_lens.loading.pretrained_sae_loaders import NAMED_PRETRAINED_SAE_LOADERS
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

from emocircuits.errors import UserError
from emocircuits.names import layer_of
from emocircuits.sae.loading.overview import STREAM, overview, spans
from emocircuits.sae.loading.places import in_words, place_in_block, place_in_name, place_of
from emocircuits.sae.loading.releases import releases, saes_of, sources_in

# names of releases that say themselves that theirs is no residual stream between blocks
ELSEWHERE = re.compile(r"mlp|att(?:n|-|$)|transcoder|clt|hook-z|resid-mid|lx[am]_")


@pytest.fixture(scope="module")
def every():
    """An overview of every release."""
    return {release: overview(release) for release in releases()}


def test_every_id_has_a_loader_and_a_place(every):
    directory = get_pretrained_saes_directory()
    assert set(every) == set(directory) and len(every) >= 170
    assert sum(one.saes for one in every.values()) == sum(len(one.saes_map) for one in directory.values())
    for release, one in every.items():
        assert one.loader in NAMED_PRETRAINED_SAE_LOADERS, release
        assert "not said" not in one.reads, release
        assert all(sae.place for sae in saes_of(release).values())


def test_the_releases_of_the_residual_stream_open(every):
    """By the names of the releases, which the rule does not read: all but those that read whole texts."""
    named = {release for release in every if not ELSEWHERE.search(release)}
    found = {release for release, one in every.items() if one.reads.get(STREAM)}
    assert found == named
    opened = {release for release in named if every[release].opened}
    assert named - opened == {"temporal-sae-gemma-2-2b", "temporal-sae-llama-3.1-8b"}
    assert len(opened) >= 0.95 * len(named)
    stream = sum(one.reads.get(STREAM, 0) for one in every.values())
    assert sum(one.opened for one in every.values()) >= 0.99 * stream >= 4700


def test_ids_and_paths_say_the_same_as_the_loaders():
    """Where a loader tells a place without a file, and an id or a path names one too, they agree."""
    compared = 0
    for release in releases():
        for sae in saes_of(release).values():
            if sae.loader in ("gemma_3", "gemma_2", "deepseek_r1"):
                named = place_in_name(sae.sae_id) or place_in_name(sae.folder)
                if named and "transcoder" not in sae.place:
                    assert named == sae.place.replace("attn.hook_z", "hook_attn_out"), sae.name
                    compared += 1
    assert compared > 4000


def test_the_layers_of_a_release(every):
    assert every["gemma-scope-2-1b-it-res"].layers == (7, 13, 17, 22)
    jb = every["gpt2-small-res-jb"]
    assert jb.layers == tuple(range(12)) and jb.reads == {"embedding": 1, STREAM: 12} and jb.alone == 12
    assert every["gemma-scope-2-1b-it-transcoders"].reads == {"MLP, as a transcoder": 72}
    assert every["gpt2-small-resid-mid-v5-32k"].reads == {"residual stream inside a block": 12}
    for release, one in every.items():
        if one.alone == len(one.layers):
            chosen = sources_in(release, one.layers)
            places = [saes_of(release)[name.partition(":")[2]].place for name in chosen.values()]
            assert [layer_of(place) for place in places] == list(one.layers)
    with pytest.raises(UserError, match="unknown sae-lens release 'nothing'"):
        overview("nothing")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("blocks.8.hook_resid_pre_768", "blocks.7.hook_resid_post"),
        ("blocks.12.hook_resid_post__trainer_3_step_308", "blocks.12.hook_resid_post"),
        ("resid_post_layer_3_trainer_1", "blocks.3.hook_resid_post"),
        ("resid_post_all/layer_0_width_16k_l0_big", "blocks.0.hook_resid_post"),
        ("l31r_32x", "blocks.31.hook_resid_post"),
        ("Llama3_1-8B-Base-L0A-32x", "blocks.0.hook_attn_out"),
        ("800M-Slimpajama-0-OpenR1-Math-220k/L7R", "blocks.7.hook_resid_post"),
        ("mlp_out/layer_9_width_65k_l0_small", "blocks.9.hook_mlp_out"),
        ("blocks.0.hook_resid_pre", "blocks.0.hook_resid_pre"),
        ("blocks.3.hook_z", "blocks.3.hook_z"),
        ("layer_12/width_16k/canonical", ""),
    ],
)
def test_the_place_in_a_name(name, place):
    assert place_in_name(name) == place


def test_other_names_of_places():
    assert place_of("blocks.4.hook_resid_pre") == place_of("model.layers.3") == "blocks.3.hook_resid_post"
    assert place_in_block(None, "") == "" and place_in_block("3", "resid_pre") == "blocks.2.hook_resid_post"
    assert in_words("") == "not said"
    assert spans([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8" and spans([]) == ""


def test_the_page_is_up_to_date(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs" / "_ext"), *sys.path])
    from published_saes import PAGE, page

    assert PAGE.read_text(encoding="utf-8") == page(), "python docs/_ext/published_saes.py writes it"
