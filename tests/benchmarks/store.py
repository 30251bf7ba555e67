"""How fast the activation store is, next to sae-lens' own activation cache and to the bare model.

`python -m tests.benchmarks.store [--clock wall|cpu]` prints a table. Everything runs in one process on one
thread; contenders take turns, and a number is the median of the repeats. Ratios are medians of the ratios of
each turn. The files lie in the page cache when they are read, for both sides. On a machine that does other
work too, `--clock cpu` counts processor time, which leaves out waiting for the disk.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from emocircuits.artifacts.store.activation_store import ActivationStore, ActivationStoreWriter
from emocircuits.artifacts.store.seekable_stream import WINDOW
from emocircuits.artifacts.store.stream import ActivationStream

Clock = Callable[[], float]
SITE, D_MODEL, CONTEXT, BATCH = "blocks.0.hook_resid_post", 256, 128, 2048


@dataclass(frozen=True)
class Line:
    """One row of the table.

    Attributes:
        what: what was measured.
        ours, theirs: medians over the repeats, in `unit`.
        unit: of both.
        ratio: median ratio; how many times faster ours is, or how much longer for `limit` "at most".
        limit: "at least" or "at most".
        bar: what the ratio has to be.
    """

    what: str
    ours: float
    theirs: float
    unit: str
    ratio: float
    limit: str
    bar: float

    @property
    def passes(self) -> bool:
        """Whether the bar is met."""
        return self.ratio >= self.bar if self.limit == "at least" else self.ratio <= self.bar


def rates(n_rows: int, repeats: int, clock: Clock = time.perf_counter) -> list[Line]:
    """Writing and chunk-shuffled reading in million rows per second, d_model 256: bfloat16 store against
    Arrow cache.
    """
    rows = np.random.default_rng(0).normal(size=(n_rows, D_MODEL)).astype(np.float32)
    writing, reading = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for _ in range(repeats):
            turns = {}
            for label, write, read in (
                ("ours", _write_store, _read_store),
                ("theirs", _write_arrow, _read_arrow),
            ):
                shutil.rmtree(folder)
                folder.mkdir()
                written = seconds(lambda write=write: write(folder, rows), clock)
                turns[label] = written, seconds(lambda read=read: read(folder, n_rows), clock)
            writing.append((turns["ours"][0], turns["theirs"][0]))
            reading.append((turns["ours"][1], turns["theirs"][1]))
    return [
        _faster("write (ours is synced and hashed)", writing, n_rows, 30),
        _faster("chunk-shuffled read", reading, n_rows, 10),
    ]


def harvest(repeats: int, clock: Clock = time.perf_counter, n_texts: int = 600) -> list[Line]:
    """Collecting every site of the organism against its bare forward passes over the same batches, in
    seconds.
    """
    from emocircuits.activations import LabelledText, collect
    from emocircuits.activations.residuals import encode_texts, length_batches
    from emocircuits.models import load_model
    from emocircuits.organism.corpus import generate

    model = load_model("organism")
    texts = [
        LabelledText(f"t{number}", document.text)
        for number, document in enumerate(generate("story", n_texts, seed=0))
    ]
    tokens = encode_texts(model, texts)
    lengths = np.array([len(ids) for ids in tokens])

    @torch.no_grad()
    def bare() -> None:
        for chosen in length_batches(lengths, 2048):
            padded = np.zeros((len(chosen), lengths[chosen].max()), dtype=np.int64)
            for row, index in enumerate(chosen):
                padded[row, : lengths[index]] = tokens[index]
            model.bridge(torch.from_numpy(padded), use_cache=False, logits_to_keep=1)

    turns = []
    with tempfile.TemporaryDirectory() as name:
        bare()
        for number in range(repeats):
            path = Path(name) / f"{number}.h5"
            turns.append(
                (
                    seconds(lambda path=path: collect(model, texts, path), clock),
                    seconds(bare, clock),
                )
            )
    ours, theirs = (float(np.median(column)) for column in zip(*turns, strict=True))
    ratio = float(np.median([one / other for one, other in turns]))
    what = (
        f"harvest / bare forward ({int(lengths.sum())} rows × {len(model.sites)} "
        f"sites, d_model {model.d_model})"
    )
    return [Line(what, ours, theirs, "s", ratio, "at most", 1.2)]


def seconds(work: Callable[[], object], clock: Clock) -> float:
    """Time of one call."""
    begin = clock()
    work()
    return clock() - begin


def _faster(what: str, turns: list[tuple[float, float]], n_rows: int, bar: float) -> Line:
    ours, theirs = (
        float(np.median([n_rows / second / 1e6 for second in column])) for column in zip(*turns, strict=True)
    )
    return Line(
        what,
        ours,
        theirs,
        "M rows/s",
        float(np.median([other / one for one, other in turns])),
        "at least",
        bar,
    )


def _write_store(folder: Path, rows: np.ndarray) -> None:
    n_prompts = len(rows) // CONTEXT
    prompts = pd.DataFrame({"id": [f"p{i}" for i in range(n_prompts)]})
    tokens = [np.arange(CONTEXT)] * n_prompts
    with ActivationStoreWriter(folder / "a.h5", (SITE,), D_MODEL, prompts, tokens, {}) as writer:
        for first in range(0, n_prompts, 16):
            last = min(first + 16, n_prompts)
            writer.append(np.arange(first, last), {SITE: rows[first * CONTEXT : last * CONTEXT]})
        writer.finish()


def _read_store(folder: Path, n_rows: int) -> None:
    stream = ActivationStream(ActivationStore.open(folder / "a.h5"), (SITE,), BATCH, 0)
    for step in range(n_rows // BATCH):
        torch.from_numpy(stream.batch(step)[SITE])


def _write_arrow(folder: Path, rows: np.ndarray) -> None:
    """What `CacheActivationsRunner.run` does with rows once the model has given them, by its own methods."""
    from datasets import Array2D, Features, Sequence, Value
    from sae_lens import CacheActivationsRunner

    buffer = 32 * CONTEXT
    runner = CacheActivationsRunner.__new__(CacheActivationsRunner)
    runner.cfg = SimpleNamespace(hook_name=SITE, d_in=D_MODEL, n_seq_in_buffer=32)
    runner.context_size = CONTEXT
    runner.features = Features(
        {
            SITE: Array2D(shape=(CONTEXT, D_MODEL), dtype="float32"),
            "token_ids": Sequence(Value(dtype="int32"), length=CONTEXT),
        }
    )
    out = folder / "arrow"
    shards = out / ".tmp_shards"
    shards.mkdir(parents=True)
    token_ids = torch.arange(CONTEXT).repeat(32)
    for number, first in enumerate(range(0, len(rows), buffer)):
        shard = runner._create_shard((torch.from_numpy(rows[first : first + buffer]), token_ids))
        shard.save_to_disk(f"{shards}/shard_{number:05d}", num_shards=1)
    runner._consolidate_shards(shards, out, copy_files=False)


def _read_arrow(folder: Path, n_rows: int) -> None:
    from sae_lens.training.activations_store import ActivationsStore

    store = ActivationsStore(
        model=None,
        dataset=None,
        streaming=False,
        hook_name=SITE,
        hook_head_index=None,
        context_size=CONTEXT,
        d_in=D_MODEL,
        n_batches_in_buffer=WINDOW // CONTEXT,
        total_training_tokens=n_rows,
        store_batch_size_prompts=32,
        train_batch_size_tokens=BATCH,
        prepend_bos=True,
        normalize_activations="none",
        device=torch.device("cpu"),
        dtype="float32",
        cached_activations_path=str(folder / "arrow"),
    )
    for _ in range(n_rows // BATCH):
        next(store)


def table(lines: list[Line]) -> Iterator[str]:
    """The lines as text."""
    for line in lines:
        yield (
            f"{'ok ' if line.passes else 'NO '} {line.what:<70} {line.ours:>9.3f} {line.theirs:>9.3f} "
            f"{line.unit:<9} ratio {line.ratio:>6.2f}  ({line.limit} {line.bar:g})"
        )


def main() -> None:
    """Runs everything."""
    parser = argparse.ArgumentParser(
        description="activation store against sae-lens' cache and the bare model"
    )
    parser.add_argument(
        "--rows", type=int, default=131_072, metavar="N", help="rows per repeat, a multiple of 4096"
    )
    parser.add_argument("--texts", type=int, default=600, metavar="N", help="texts per harvest")
    parser.add_argument("--repeats", type=int, default=5, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers there")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu on a machine that is busy otherwise"
    )
    arguments = parser.parse_args()
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    torch.set_num_threads(1)
    lines: list[Line] = []
    for part in (
        lambda: rates(arguments.rows, arguments.repeats, clock),
        lambda: harvest(arguments.repeats, clock, arguments.texts),
    ):
        found = part()
        print("\n".join(table(found)), flush=True)
        lines += found
    text = json.dumps([{**asdict(line), "passes": line.passes} for line in lines], indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
