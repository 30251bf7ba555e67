"""Figures in the page: drawn when they are asked for, no markup in their address."""

import re

import pytest
from fixtures.make_run import make_run

from emocircuits.errors import UserError
from emocircuits.report.pictures import Pictures, svg_address


def test_a_picture_is_drawn_when_it_is_asked_for(tmp_path):
    pictures = Pictures(make_run(tmp_path))
    (tmp_path / "steering.csv").unlink()
    assert pictures["sae_quality"].startswith('<figure class="plot"><img alt="SAE quality"')
    assert pictures.get("steering") == "", "its data are gone"
    with pytest.raises(UserError, match="run the stage 'steer' first"):
        pictures["steering"]
    with pytest.raises(UserError, match="unknown figure 'sterring'"):
        pictures.get("sterring")


def test_a_picture_is_an_address_without_markup():
    svg = """<?xml version="1.0"?><!DOCTYPE svg><svg width='1'>
 <!-- it's a label --><metadata>when</metadata><use href="#a" x="50%"/></svg>"""
    address = svg_address(svg)
    assert not re.search(r"[<>'#&\n]", address) and "label" not in address and "when" not in address
    assert 'href="%23a" x="50%25"' in address
