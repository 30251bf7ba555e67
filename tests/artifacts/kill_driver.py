"""Fills small stores in forked children and kills them; prints what happened as JSON. Run by
`test_store_kills.py`.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
from artifacts.store_world import META, SITES, plan, rows_of

from emocircuits.artifacts.store.activation_store import ActivationStore, ActivationStoreWriter

LENGTHS = [5 + i % 7 for i in range(60)]
PROMPTS, TOKENS = plan(LENGTHS)
VALUES = rows_of(LENGTHS, 8)
CALLS = ("pwrite", "fsync", "replace", "posix_fallocate", "unlink")
WRONG = 3


def finished(path):
    """Prompts of the shards in the manifest, read without the package."""
    manifest = path.with_suffix(".shards") / "manifest.json"
    shards = json.loads(manifest.read_text())["shards"] if manifest.exists() else []
    return {shard["first_prompt"] + number for shard in shards for number in range(shard["n_prompts"])}


def fill(path, shard_rows, prompts):
    kept, plan_of = finished(path), (PROMPTS.head(prompts), TOKENS[:prompts])
    with ActivationStoreWriter(path, SITES, 8, *plan_of, META, shard_rows=shard_rows) as writer:
        if set(np.flatnonzero(writer.done)) != kept:  # the unfinished shard is redone, and nothing else
            os._exit(WRONG)
        for shard in writer.shards:
            for prompt in shard if shard.start not in kept else ():
                writer.append([prompt], {site: VALUES[site][prompt] for site in SITES})
        writer.finish()


def arm(countdown):
    """Kills this process at its n-th system call that changes the disk; nothing is really synced, so this is
    quick.
    """
    left = [countdown]

    def armed(name, real):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return None if name == "fsync" else real(*arguments, **options)

        return call

    for name in CALLS:
        setattr(os, name, armed(name, getattr(os, name)))


def run(path, shard_rows, prompts=len(LENGTHS), delay=None, countdown=None):
    """Whether the child was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if countdown is not None:
                arm(countdown)
            fill(path, shard_rows, prompts)
            code = 0
        finally:
            os._exit(code)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, os.WEXITSTATUS(status)
    return False


def contents(path):
    store = ActivationStore.open(path)
    assert sorted(path.parent.iterdir()) == sorted({path, path.with_suffix(".shards")})
    assert sorted(path.with_suffix(".shards").iterdir()) == sorted(store.files[1:])
    return [file.read_bytes() for file in store.files]


def at_random(root, kills):
    """Kills at random moments until `kills` of them struck; returns how often each store was killed."""
    begin = time.perf_counter()
    (root / "clean").mkdir()
    assert not run(root / "clean" / "s.h5", 30)
    seconds, expected, counts = time.perf_counter() - begin, contents(root / "clean" / "s.h5"), []
    while sum(counts) < kills:
        path, count = root / f"random-{len(counts)}" / "s.h5", 0
        path.parent.mkdir()
        while run(path, 30, delay=random.uniform(0, seconds) if count < 8 else None):
            count += 1
            if path.exists():  # killed behind the last step
                ActivationStore.open(path).verify()
        assert contents(path) == expected
        counts.append(count)
    return counts


def at_every_step(root, *harvest):
    """Kills before each system call of a harvest (rows of a shard, prompts) in turn; returns how many there
    were.
    """
    countdown = 0
    (root / "whole").mkdir()
    assert not run(root / "whole" / "s.h5", *harvest, countdown=10**6)
    expected = contents(root / "whole" / "s.h5")
    while True:
        path = root / f"step-{countdown}" / "s.h5"
        path.parent.mkdir()
        if not run(path, *harvest, countdown=countdown):
            return countdown
        assert not run(path, *harvest, countdown=10**6)
        assert contents(path) == expected, countdown
        countdown += 1


if __name__ == "__main__":
    random.seed(int(sys.argv[2]))
    root, harvest = Path(sys.argv[1]), map(int, sys.argv[3:])
    print(json.dumps({"random": at_random(root, 24), "steps": at_every_step(root, *harvest)}))
