"""Costs on paper: formulas that scale as they should, and rates that come from this machine."""

import json
from dataclasses import replace

import pytest

from emocircuits.cli.main import main
from emocircuits.studies.cost import PRESETS, Job, Speeds, estimate

RATES = Speeds(1e12, 0.5, 1e9, "stated")


def by_stage(shape, job):
    return {row["stage"]: row for row in estimate(shape, job, RATES)}


def test_flop_by_hand():
    rows = by_stage(PRESETS["7b"], Job(tokens=1e6, rows=1e6, sites=2, expansion=8, k=32))
    assert rows["collect"]["flop"] == pytest.approx(2 * 7.2e9 * 1e6) and rows["collect"][
        "seconds"
    ] == pytest.approx(2 * 7.2e15 / 5e11)
    assert rows["sae"]["flop"] == pytest.approx(2 * 1e6 * (2 * 4096 * 32768 + 8 * 32 * 4096))
    assert rows["collect"]["disk_gb"] == pytest.approx(1e6 * 4096 * 2 * 2 / 2**30)
    assert rows["all"]["seconds"] == pytest.approx(
        sum(row["seconds"] for name, row in rows.items() if name != "all")
    )


def test_what_doubles_doubles():
    one, two = by_stage(PRESETS["2b"], Job()), by_stage(PRESETS["2b"], replace(Job(), tokens=1e7, ranks=2))
    assert two["collect"]["flop"] == 2 * one["collect"]["flop"] and two["collect"][
        "seconds"
    ] == pytest.approx(one["collect"]["seconds"])
    assert two["sae"]["seconds"] == pytest.approx(one["sae"]["seconds"] / 2)
    assert (
        by_stage(PRESETS["27b"], Job())["attribute"]["memory_gb"]
        > by_stage(PRESETS["7b"], Job())["attribute"]["memory_gb"]
    )


def test_the_command(capsys):
    given = ["cost", "--size", "7b", "--flops", "4e14", "--share", "0.4", "--disk", "1e9"]
    assert main([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rates"]["what"] == "stated" and [row["stage"] for row in found["rows"]][-1] == "all"
    assert main([*given, "--ranks", "8"]) == 0 and "8 ranks" in capsys.readouterr().out
    assert main(["cost", "--size", "8b"]) == 2 and "unknown model size '8b'" in capsys.readouterr().err
