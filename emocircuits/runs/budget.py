"""A stated memory budget turned into tokens per pass and the precision of the weights, for as long as a stage
works.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from emocircuits.models.files import weight_files
from emocircuits.models.memory import GIB, LIBRARIES_GB, pairs_at_once, shape_of
from emocircuits.progress import say
from emocircuits.runs.recipe import Recipe
from emocircuits.runs.run import Run

OVER_PAIRS = ("attribute", "circuit", "evaluate")


def dtype_within(recipe: Recipe, directory: Path) -> str:
    """The precision of the weights: the recipe's, or bfloat16 where float32 weights alone would take half the
    budget.
    """
    if not recipe.memory_gb or recipe.dtype != "float32":
        return recipe.dtype
    from safetensors import safe_open

    numbers = 0
    for path in weight_files(directory):
        with safe_open(path, framework="np") as tensors:
            for name in tensors.keys():
                size = 1
                for length in tensors.get_slice(name).get_shape():
                    size *= length
                numbers += size
    if numbers * 4 / GIB <= (recipe.memory_gb - LIBRARIES_GB) / 2:
        return "float32"
    say(
        f"{numbers * 4 / GIB:.1f} GiB of float32 weights in a budget of {recipe.memory_gb:g} "
        "GiB: loading them as bfloat16"
    )
    return "bfloat16"


@contextmanager
def budgeted(run: Run, stage: str) -> Iterator[None]:
    """Inside this context `attribute.max_tokens` is what fits into `memory_gb`, for the stages that run
    prompt pairs.

    Raises:
        UserError: not even one pair fits; the message says what to lower.
    """
    recipe = run.recipe
    if not recipe.memory_gb or stage not in OVER_PAIRS:
        yield
        return
    model = run.model
    longest = max(
        len(model.encode(pair.clean))
        for name in recipe.behaviours
        for split in ("find", "score")
        for pair in run.behaviour(name).pairs(split)
    )
    widest = max(int(run.sae(site).cfg.d_sae) for site in model.sites)
    at_once = pairs_at_once(shape_of(model), longest, recipe.memory_gb, d_sae=widest, sites=len(model.sites))
    tokens = min(recipe.attribute.max_tokens, at_once * longest) if at_once > 1 else longest
    say(
        f"{stage:<10} {max(1, tokens // longest)} of the longest pairs ({longest} tokens) per pass within "
        f"{recipe.memory_gb:g} GiB"
    )
    run.recipe = replace(recipe, attribute=replace(recipe.attribute, max_tokens=tokens))
    try:
        yield
    finally:
        run.recipe = recipe
