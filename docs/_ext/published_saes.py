"""The page of published SAEs, made from sae-lens' directory without a file of theirs:

python docs/_ext/published_saes.py
"""

import sys
from pathlib import Path

from sae_lens import __version__

from emocircuits.models.family import family_of_name
from emocircuits.sae.loading.overview import STREAM, Overview, overview, spans
from emocircuits.sae.loading.releases import releases

PAGE = Path(__file__).parents[1] / "published_saes.md"
HEAD = """# Published SAEs

Written by `python docs/_ext/published_saes.py` from the directory of sae-lens {version}, without a
download; a test says when it is out of date. Every release is read by the loader that sae-lens names
for it. An SAE opens where the hook that it was trained on is the residual stream after a block;
`resid_pre` of the next block and Hugging Face's `model.layers.N` are the same place.

```python
release = "gemma-scope-2-1b-it-res"
saes = emocircuits.load_saes(release, layers=[13, 17], store=store)  # one of each layer
saes = emocircuits.load_saes({{13: f"{{release}}:layer_13_width_16k_l0_small"}}, store=store)
saes = emocircuits.load_saes("/data/gemma-scope-2-1b-it/resid_post", layers=[13])  # files that lie here
```

{counts}

Of several SAEs after one layer, `layers=` takes those with a page on Neuronpedia, of these those that
were trained to the end, the narrowest of them, and of these the one whose stated L0 is nearest to 100.
Where none stands out, the message lists those that are as good, to be named. Files in the same forms may
lie in folders of your own: one SAE, or a whole repository as it was downloaded. `.pt` files are read with
`weights_only=True`, which runs no code from them.

What the files alone say is not in these tables. An SAE that normalises each token (those of Mistral, at
least) opens, and matching and attribution, which need a fixed scale, refuse it. An SAE of a model that was
changed before (`gpt2-small-res-jb` reads GPT-2 with centred weights) reads other activations than yours:
L0 and FVU, measured with `store=`, tell.
"""
COLUMNS = ("release", "model", "family here", "loader", "SAEs", "layers", "open", "by layer")
ELSEWHERE = ("release", "model", "loader", "SAEs", "what they read")


def page() -> str:
    """The whole page."""
    every = sorted((overview(release) for release in releases()), key=lambda one: one.release)
    stream = [one for one in every if one.reads.get(STREAM)]
    rest = [one for one in every if not one.reads.get(STREAM)]
    return "\n".join(
        [
            HEAD.format(version=__version__, counts=counts(every, stream)),
            "## Of the residual stream after a block\n",
            "*open* counts the SAEs that can be opened, *by layer* the layers of which one stands out.\n",
            table(COLUMNS, [_row(one) for one in stream]),
            "## Of other places\n",
            "Refused at a site of the residual stream, before anything is fetched.\n",
            table(ELSEWHERE, [_elsewhere(one) for one in rest]),
        ]
    )


def counts(every: list[Overview], stream: list[Overview]) -> str:
    """The numbers in words."""
    opened = [one for one in stream if one.opened]
    ours = [one for one in opened if family_of_name(one.model)]
    saes, read = sum(one.saes for one in every), sum(one.reads.get(STREAM, 0) for one in stream)
    number, known = sum(one.opened for one in opened), sum(one.opened for one in ours)
    return (
        f"{len(every)} releases with {saes:,} SAEs have a loader, and every id names its place. "
        f"{read:,} SAEs of {len(stream)}\nreleases read the residual stream after a block: "
        f"{number:,} of {len(opened)} releases open, {known:,} of them, of {len(ours)}\nreleases, "
        "are of models that [these families](families.md) open."
    )


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _row(one: Overview) -> tuple[str, ...]:
    card = family_of_name(one.model)
    return (
        f"`{one.release}`",
        one.model,
        card.name if card else "no",
        one.loader,
        f"{one.saes:,}",
        spans(one.layers),
        one.obstacle
        or (f"{one.opened:,}" if one.opened == one.saes else f"{one.opened:,} (others: {_others(one)})"),
        "all" if one.alone == len(one.layers) else f"{one.alone} of {len(one.layers)}",
    )


def _others(one: Overview) -> str:
    return ", ".join(words for words in one.reads if words != STREAM)


def _elsewhere(one: Overview) -> tuple[str, ...]:
    return f"`{one.release}`", one.model, one.loader, f"{one.saes:,}", ", ".join(one.reads)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
