"""How much memory a pass takes, and how many tokens fit into a stated budget.

Counted per prompt of T tokens on a model of L layers, width d, H heads, an MLP of width m and V words, b
bytes a number:

    forward    one block at a time, and the key-value cache     b (2 L d T + T (8 d + 2 m) + 3 H t T) + 4 V
    backward   what all blocks keep for it                      b L (T (12 d + 3 m) + 3 H T T) + 8 V
    SAE sites  streams, features and their gradients, per site  4 (T (6 d + 4 S))

t is the number of tokens that attend at once: the chunk in a chunked pass, T elsewhere. These are upper
estimates of what eager attention holds; `tests/experiments/test_long_prompts.py` compares them with what is
really allocated. The fixed part is the weights, and what Python and its libraries take.
"""

from dataclasses import dataclass

from emocircuits.errors import UserError
from emocircuits.models.language_model import LanguageModel

LIBRARIES_GB = 0.9
GIB = 2**30


@dataclass(frozen=True)
class Shape:
    """The sizes that memory and time depend on."""

    n_params: int
    n_layers: int
    d_model: int
    n_heads: int
    d_mlp: int
    d_vocab: int
    bytes_each: int = 4

    @property
    def fixed_gb(self) -> float:
        """Weights and libraries, GiB."""
        return LIBRARIES_GB + self.n_params * self.bytes_each / GIB

    def forward_bytes(self, tokens: int, chunk: int | None = None) -> int:
        """One prompt in a pass without gradients, `chunk` tokens at a time."""
        at_once = min(tokens, chunk or tokens)
        block = at_once * (8 * self.d_model + 2 * self.d_mlp) + 3 * self.n_heads * at_once * tokens
        return (
            self.bytes_each * (2 * self.n_layers * self.d_model * tokens + block) + 4 * self.d_vocab * at_once
        )

    def attribution_bytes(self, tokens: int, d_sae: int, sites: int) -> int:
        """One prompt pair in attribution: a graph for the backward pass, and streams and features of all
        sites on both runs.
        """
        graph = self.n_layers * (
            tokens * (12 * self.d_model + 3 * self.d_mlp) + 3 * self.n_heads * tokens * tokens
        )
        return (
            self.bytes_each * graph
            + 8 * self.d_vocab * tokens
            + 4 * sites * tokens * (6 * self.d_model + 4 * d_sae)
        )


def shape_of(model: LanguageModel) -> Shape:
    """The sizes of a loaded model."""
    cfg = model.bridge.cfg
    parameter = next(model.bridge.original_model.parameters())
    return Shape(
        model.n_params,
        model.n_layers,
        model.d_model,
        int(cfg.n_heads),
        int(getattr(cfg, "d_mlp", 0) or 4 * model.d_model),
        model.d_vocab,
        parameter.element_size(),
    )


def chunk_for(model: LanguageModel, tokens: int, memory_gb: float | int) -> int:
    """The largest power of two (at most 2,048) of tokens per pass with which one prompt of that length stays
    inside a budget.

    Raises:
        UserError: not even one token at a time fits.
    """
    shape = shape_of(model)
    free = _free(shape, memory_gb)
    fits = [size for size in (2**power for power in range(12)) if shape.forward_bytes(tokens, size) <= free]
    if not fits:
        raise _too_small(shape, memory_gb, shape.forward_bytes(tokens, 1), tokens)
    return max(fits)


def pairs_at_once(shape: Shape, tokens: int, memory_gb: float | int, *, d_sae: int, sites: int) -> int:
    """How many prompt pairs of that length fit into one pass of attribution inside a budget.

    Raises:
        UserError: not even one.
    """
    free, each = _free(shape, memory_gb), shape.attribution_bytes(tokens, d_sae, sites)
    if each > free:
        raise _too_small(shape, memory_gb, each, tokens)
    return int(free // each)


def _free(shape: Shape, memory_gb: float | int) -> float:
    if memory_gb <= shape.fixed_gb:
        raise UserError(
            f"a memory budget of {memory_gb:g} GiB",
            expected=f"more than {shape.fixed_gb:.1f} GiB, which weights and libraries take",
            cure="raise --memory-gb, or load the model with --dtype bfloat16",
        )
    return (memory_gb - shape.fixed_gb) * GIB


def _too_small(shape: Shape, memory_gb: float | int, needed: int, tokens: int) -> UserError:
    return UserError(
        f"a prompt of {tokens} tokens takes {needed / GIB:.1f} GiB next to {shape.fixed_gb:.1f} GiB for "
        "weights and libraries",
        expected=f"at most the budget of {memory_gb:g} GiB",
        cure="raise --memory-gb, shorten the prompts, use --dtype bfloat16, or fewer sites "
        "(circuit.from_depth) and smaller SAEs",
    )
