"""Harvests with the ranks of a job: harvest_driver.py FOLDER TEXTS [DIRECTORY OF A MODEL]; prints the seconds
inside.
"""

import sys
import time
from pathlib import Path

import torch

from emocircuits.activations import LabelledText, StoreSettings, collect
from emocircuits.models import load_model
from emocircuits.models.planted.text import planted_stories
from emocircuits.ranks import barrier, process_group, ranks


def main(folder: Path, n_texts: int, name: str) -> None:
    torch.set_num_threads(1)
    with process_group():
        model = load_model(name, checks=False)
        stories = planted_stories(n_texts)
        texts = [
            LabelledText(id=str(number), text=story.text)
            for number, story in enumerate([*stories, *stories[::3]])  # twins in other shards
        ]
        if ranks().first:
            folder.mkdir(parents=True, exist_ok=True)
        barrier()
        begin = time.perf_counter()
        collect(model, texts, folder / "a.h5", settings=StoreSettings(shard_rows=2048))
        barrier()
        if ranks().first:
            print(f"seconds {time.perf_counter() - begin:.3f}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "organism")
