"""What the ranks of a job do in `test_ranks.py`; started by torchrun: ranks_driver.py WHAT FOLDER."""

import os
import signal
import sys
from pathlib import Path

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.cli.main import main
from emocircuits.ranks import process_group, ranks
from emocircuits.sae import SAESettings, train_saes
from emocircuits.sae.training import train as train_module

FOLDER = Path(sys.argv[2])
SHORT = {
    "expansion": 4,
    "k": 3,
    "training_rows": 6_000,
    "batch_size": 100,
    "lr": 2e-3,
    "aux_coefficient": 1.0,
}


def settings(name: str, **changes) -> SAESettings:
    return SAESettings(architecture=name, **{**SHORT, **changes})


def die_at(step: int) -> None:
    """Rank 1 is killed after so many steps."""
    real = train_module.train_one

    def train_one(*arguments, after_step, **options):
        done = 0

        def count(more):
            nonlocal done
            done += more
            if done == step and ranks().rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            after_step(more)

        return real(*arguments, after_step=count, **options)

    train_module.train_one = train_one


METHODS = ("attribution_patching", "integrated_gradients", "exact", "steering", "verified")
QUICK = ("attribution_patching", "exact", "steering")


def attributions(folder: Path, methods: tuple[str, ...] = METHODS) -> None:
    """Attributions of one set of prompts, written by the first rank."""
    import torch
    from planted.paper_model import difference, random_batch, random_model, random_saes

    import emocircuits

    torch.manual_seed(0)
    model, saes, batch = random_model(), random_saes("topk", 2, 12), random_batch(5)
    folder.mkdir(exist_ok=True)
    for method in methods:
        for nodes in ("features", "components"):
            found = emocircuits.attribute(
                model,
                batch.clean,
                batch.corrupt,
                difference,
                nodes=nodes,
                method=method,
                max_tokens=14,
                saes=saes if nodes == "features" else None,
                max_features=20,
            )
            if ranks().first:
                found.save(folder / f"{method}-{nodes}.h5")


def work() -> int:
    if sys.argv[1] == "attribute":
        attributions(FOLDER / "ranks")
        return 0
    store = ActivationStore.open(FOLDER / "a.h5")
    if sys.argv[1] == "killed":
        die_at(23)
    for name in ("topk", "batchtopk"):
        train_saes(
            store,
            FOLDER / f"ranks-{name}",
            settings(name, spread="batches", checkpoint_minutes=0.0),
            layers=store.sites[:1],
        )
    if sys.argv[1] != "killed":
        train_saes(store, FOLDER / "sites", settings("topk"))
    if sys.argv[1] == "both":
        attributions(FOLDER / "ranks", QUICK)
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "run":
        sys.exit(main(["run", sys.argv[3], "--out", str(FOLDER), "--set", sys.argv[4], "--quiet"]))
    from emocircuits.errors import EmocircuitsError

    with process_group():
        try:
            code = work()
        except EmocircuitsError as error:
            print(f"rank {ranks().rank}: {error}", file=sys.stderr)
            code = error.exit_code
            os._exit(code)
    sys.exit(code)
