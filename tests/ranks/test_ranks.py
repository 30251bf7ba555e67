"""Two ranks give what one process gives, and a killed rank ends the job with a line and loses nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from fixtures.planted_store import SITES, contents, planted_store, train_pairs
from fixtures.waits import run_to_end
from safetensors.torch import load_file

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.cli.main import main
from emocircuits.errors import UserError
from emocircuits.provenance import sha256_file
from emocircuits.ranks import Ranks, alone, barrier, process_group, ranks
from emocircuits.sae import train_saes

DRIVER = Path(__file__).with_name("ranks_driver.py")
sys.argv, kept = ["ranks_driver", "", "."], sys.argv
from ranks.ranks_driver import METHODS, QUICK, attributions, settings  # noqa: E402

sys.argv = kept


def torchrun(*arguments, count: int = 2) -> subprocess.CompletedProcess:
    """Some ranks on this machine."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(count),
        str(DRIVER),
    ]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }
    return run_to_end([*command, *map(str, arguments)], env=environment)


@pytest.mark.slow
def test_three_ranks_harvest_the_bytes_of_one(tmp_path):
    from ranks.harvest_driver import main

    main(tmp_path / "alone", 200, "organism")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "3",
        str(DRIVER.with_name("harvest_driver.py")),
        str(tmp_path / "three"),
        "200",
    ]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }
    done = run_to_end(command, env=environment)
    assert done.returncode == 0, done.stderr
    names = sorted(path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").rglob("*.h5"))
    assert len(names) > 3
    for name in names:
        assert sha256_file(tmp_path / "alone" / name) == sha256_file(tmp_path / "three" / name), name


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / SITES[0] / "sae_weights.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A store and what two ranks made of it; attributions by two ranks."""
    path = tmp_path_factory.mktemp("ranks")
    planted_store(path / "a.h5", n_prompts=60)
    done = torchrun("both", path)
    assert done.returncode == 0, done.stderr
    return path


@pytest.mark.parametrize("name", ["topk", "batchtopk"])
def test_two_ranks_take_the_steps_of_one_process_on_the_whole_batch(folder, tmp_path, name):
    store = planted_store(tmp_path / "a.h5", n_prompts=60)
    train_saes(store, tmp_path, settings(name), layers=SITES[:1])
    alone, shared = weights(tmp_path), weights(folder / f"ranks-{name}")
    assert alone.keys() == shared.keys()
    for key, value in alone.items():
        torch.testing.assert_close(shared[key], value, rtol=0, atol=1e-6 * float(value.abs().max()), msg=key)


def test_ranks_that_share_sites_give_the_bytes_of_one_process(folder, tmp_path):
    store = planted_store(tmp_path / "a.h5", n_prompts=60)
    found = contents(train_pairs(store, tmp_path / "alone", settings("topk"), layers=SITES))
    assert found == contents({site: folder / "sites" / site for site in SITES})


def test_two_ranks_that_share_prompts_attribute_what_one_process_does(folder, tmp_path):
    check_attributions(tmp_path, folder / "ranks", QUICK)


@pytest.mark.slow
def test_three_ranks_that_share_prompts_attribute_what_one_process_does(tmp_path):
    done = torchrun("attribute", tmp_path, count=3)
    assert done.returncode == 0, done.stderr
    check_attributions(tmp_path / "alone", tmp_path / "ranks", METHODS)


def check_attributions(one: Path, several: Path, methods: tuple[str, ...]) -> None:
    attributions(one, methods)
    names = sorted(path.name for path in one.iterdir())
    assert len(names) == 2 * len(methods)
    for name in names:
        alone, shared = (AttributionResult.load(folder / name) for folder in (one, several))
        assert alone.nodes == shared.nodes and alone.passes == shared.passes, name
        for part in ("effects", "metric_clean", "metric_corrupt"):
            np.testing.assert_allclose(
                getattr(shared, part), getattr(alone, part), rtol=0, atol=1e-12, err_msg=name
            )
        np.testing.assert_array_equal(shared.edges.targets, alone.edges.targets)
        np.testing.assert_allclose(
            shared.edges.effects, alone.edges.effects, rtol=0, atol=1e-12, err_msg=name
        )


def test_work_apart_knows_no_other_ranks(monkeypatch):
    from emocircuits import ranks as parallel

    monkeypatch.setenv("WORLD_SIZE", "2")
    with alone():
        assert ranks() == Ranks(0, 1) and parallel.gather_rows("as it is") == "as it is"


@pytest.mark.slow
def test_a_killed_rank_ends_the_job_and_the_job_goes_on(folder, tmp_path):
    planted_store(tmp_path / "a.h5", n_prompts=60)
    killed = torchrun("killed", tmp_path)
    assert killed.returncode != 0
    assert "rank 0: rank 0 of 2 lost the others" in killed.stderr, killed.stderr
    assert "the same command resumes" in killed.stderr
    left = sorted(path.name for path in (tmp_path / "ranks-topk" / ".checkpoints" / SITES[0]).iterdir())
    assert left[-1] in ("step-000000022.safetensors", "step-000000023.safetensors")
    assert torchrun("train", tmp_path).returncode == 0
    for name in ("topk", "batchtopk"):
        for file in ("cfg.json", "sae_weights.safetensors"):
            ours, undisturbed = (root / f"ranks-{name}" / SITES[0] / file for root in (tmp_path, folder))
            assert ours.read_bytes() == undisturbed.read_bytes()


@pytest.mark.slow
def test_a_whole_run_of_two_ranks_leaves_the_files_of_one(debug_run, tmp_path):
    # several batches of prompts to share
    recipe, several = ROOT / "analyses" / "recipes" / "debug.toml", "attribute.max_tokens=200"
    alone = Path(shutil.copytree(debug_run, tmp_path / "alone"))
    assert main(["run", str(recipe), "--out", str(alone), "--set", several, "--quiet"]) == 0
    done = torchrun("run", tmp_path / "run", recipe, several)
    assert done.returncode == 0, done.stderr
    names = ["activations.h5", "directions.h5", "saes.csv", "matches.csv", "steering.csv", "scores.json"]
    kinds = ("saes/*/*", "activations.shards/*.h5", "attribution_*.h5", "circuit_*.json", "evidence_*.json")
    names += [path.relative_to(alone).as_posix() for kind in kinds for path in alone.glob(kind)]
    assert len(names) > 11
    for name in names:
        assert sha256_file(tmp_path / "run" / name) == sha256_file(alone / name), name


def test_work_is_dealt_out_without_gaps():
    for size in (1, 2, 3, 5):
        everyone = [Ranks(rank, size) for rank in range(size)]
        assert sorted(item for one in everyone for item in one.shard(range(11))) == list(range(11))
        slices = [one.slice_of(12) for one in everyone]
        assert slices[0].start == 0 and slices[-1].stop == 12
        assert all(one.stop == other.start for one, other in zip(slices, slices[1:], strict=False))


def test_a_process_alone_is_rank_0_of_1():
    with process_group() as me:
        assert me == ranks() == Ranks(0, 1) and me.alone and me.first
    barrier()


def test_what_ranks_cannot_share_is_refused(tmp_path, monkeypatch):
    from emocircuits.sae.training import train as train_module

    store = planted_store(tmp_path / "a.h5", n_prompts=10)
    monkeypatch.setattr(train_module, "ranks", lambda: Ranks(0, 3))
    with pytest.raises(UserError, match="sae.batch_size is 100; expected a multiple of the 3 ranks"):
        train_saes(store, tmp_path, settings("topk", spread="batches"), layers=SITES)
    monkeypatch.setattr(train_module, "ranks", lambda: Ranks(0, 2))
    with pytest.raises(
        UserError, match="the loss of jumprelu depends on the batch as a whole; expected .*topk"
    ):
        train_saes(store, tmp_path, settings("jumprelu", spread="batches"), layers=SITES)
