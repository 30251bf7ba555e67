"""What sae-lens' directory of published SAEs has for this package, told without a file: which loader reads a
release, where its SAEs read, and which of them can be opened.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from emocircuits.names import layer_of
from emocircuits.sae.loading.places import in_words
from emocircuits.sae.loading.releases import Published, best_of, saes_of

STREAM = "residual stream"


@dataclass(frozen=True)
class Overview:
    """One release.

    Attributes:
        release: its name.
        model: the model of its SAEs, as it says.
        loader: sae-lens' loader for it.
        reads: what its SAEs read, in words -> how many.
        layers: the blocks after which they read the residual stream.
        opened: how many can be opened at the residual stream after a block.
        obstacle: why the others of the residual stream cannot; "" where all can.
        alone: for how many layers one stands out, so that the release and the layer are enough of a name.
    """

    release: str
    model: str
    loader: str
    reads: dict[str, int]
    layers: tuple[int, ...]
    opened: int
    obstacle: str
    alone: int

    @property
    def saes(self) -> int:
        """How many SAEs it has."""
        return sum(self.reads.values())


def overview(release: str) -> Overview:
    """What is known of a release without any file.

    Raises:
        UserError: no such release.
    """
    saes = list(saes_of(release).values())
    by_layer: dict[int, list[Published]] = {}
    for sae in saes:
        if in_words(sae.place) == STREAM:
            by_layer.setdefault(layer_of(sae.place), []).append(sae)
    stream = [sae for there in by_layer.values() for sae in there]
    obstacles = [sae.obstacle for sae in stream if sae.obstacle]
    return Overview(
        release,
        saes[0].model,
        saes[0].loader,
        dict(Counter(in_words(sae.place) for sae in saes)),
        tuple(sorted(by_layer)),
        len(stream) - len(obstacles),
        obstacles[0] if obstacles else "",
        sum(len(best_of(there)) == 1 for there in by_layer.values()),
    )


def spans(numbers: Sequence[int]) -> str:
    """Numbers in a row as `0-11`, others one by one."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
