"""Which rows of a store count: sink tokens and rows of extreme norm are left out, and both are reported.

Attention-sink rows have norms a hundred times the usual; a few of them take many features of an SAE with
them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.artifacts.store.row_selection import RowSelection
from emocircuits.artifacts.store.seekable_stream import WINDOW
from emocircuits.errors import UserError, unknown

MEDIAN_ROWS = 1 << 17


@dataclass(frozen=True)
class RowFilter:
    """What is left out.

    Attributes:
        skip_positions: leading positions of every prompt (BOS and sink).
        skip_tokens: token ids, wherever they stand.
        max_norm_multiple: rows whose norm is more than this multiple of the site's median norm; None leaves
            none out.

    Raises:
        UserError: a negative position count, or a multiple that is not above 1.
    """

    skip_positions: int = 1
    skip_tokens: tuple[int, ...] = ()
    max_norm_multiple: float | None = None

    def __post_init__(self) -> None:
        if self.skip_positions < 0:
            raise UserError(f"skip_positions is {self.skip_positions}", expected="0 or more")
        if self.max_norm_multiple is not None and not self.max_norm_multiple > 1:
            raise UserError(
                f"max_norm_multiple is {self.max_norm_multiple}",
                expected="more than 1, e.g. 10",
                cure="at 1 half of the rows would go",
            )


@dataclass(frozen=True)
class FilterReport:
    """What a filter left out, in rows.

    Attributes:
        n_rows: rows of the chosen prompts.
        sink_rows: left out by position.
        token_rows: left out by token id (and not by position).
        norm_rows: left out by norm at any of the sites.
        kept: what is left.
        norm_rows_by_site: rows above the limit at each site.
        median_norms: median norm at each site, over up to 131,072 evenly spaced rows that pass the other
            filters.
    """

    n_rows: int
    sink_rows: int
    token_rows: int
    norm_rows: int
    kept: int
    norm_rows_by_site: Mapping[str, int]
    median_norms: Mapping[str, float]


def filter_rows(
    store: ActivationStore,
    row_filter: RowFilter,
    *,
    prompts: Bool[np.ndarray, "prompt"] | None = None,
    sites: Sequence[str] | None = None,
) -> tuple[RowSelection, FilterReport]:
    """The rows that count, and what was left out.

    A row is left out at all sites when its norm is too large at one, so that several sites stay in lockstep.

    Args:
        store: the rows.
        row_filter: what is left out.
        prompts: only rows of these prompts; all by default.
        sites: where norms are looked at; all by default.

    Raises:
        UserError: an unknown site, or nothing is left.
    """
    sites = tuple(store.sites if sites is None else sites)
    for site in sites:
        if site not in store.sites:
            raise unknown("site", site, store.sites)
    prompts = np.ones(store.n_prompts, dtype=bool) if prompts is None else np.asarray(prompts, dtype=bool)
    counts = {"all": 0, "sink": 0, "token": 0, "norm": 0}
    by_site = dict.fromkeys(sites, 0)
    kept = RowSelection(_labelled(store, row_filter, prompts, counts))
    medians: dict[str, float] = {}
    if row_filter.max_norm_multiple is not None and len(kept):
        ranks = np.arange(0, len(kept), -(-len(kept) // MEDIAN_ROWS))
        sample = kept.take(ranks)
        for site in sites:
            norms = np.concatenate([_norms(rows) for _, rows in store.blocks(site, sample)])
            medians[site] = float(np.median(norms))
        limits = {site: row_filter.max_norm_multiple * median for site, median in medians.items()}
        kept = RowSelection(_of_usual_norm(store, kept, limits, counts, by_site))
    if len(kept) == 0:
        raise UserError(
            f"the filter leaves none of the {counts['all']} rows of {store.path}",
            expected="at least one row",
            cure="skip fewer positions, raise the norm multiple or collect more prompts",
        )
    return kept, FilterReport(
        counts["all"], counts["sink"], counts["token"], counts["norm"], len(kept), by_site, medians
    )


def _labelled(
    store: ActivationStore, row_filter: RowFilter, prompts: np.ndarray, counts: dict[str, int]
) -> Iterator[np.ndarray]:
    for first in range(0, store.n_rows, WINDOW):
        rows = slice(first, first + WINDOW)
        wanted = prompts[store.prompt_index[rows]]
        sink = wanted & (store.positions[rows] < row_filter.skip_positions)
        token = wanted & ~sink & np.isin(store.tokens[rows], row_filter.skip_tokens)
        for name, mask in (("all", wanted), ("sink", sink), ("token", token)):
            counts[name] += int(mask.sum())
        yield wanted & ~sink & ~token


def _of_usual_norm(
    store: ActivationStore,
    kept: RowSelection,
    limits: dict[str, float],
    counts: dict[str, int],
    by_site: dict[str, int],
) -> Iterator[np.ndarray]:
    for first in range(0, store.n_rows, WINDOW):
        stop = min(first + WINDOW, store.n_rows)
        mask = kept.mask(first, stop)
        extreme = np.zeros(stop - first, dtype=bool)
        for site, limit in limits.items():
            here = mask & (_norms(store.read(site, slice(first, stop))) > limit)
            by_site[site] += int(here.sum())
            extreme |= here
        counts["norm"] += int(extreme.sum())
        yield mask & ~extreme


def _norms(rows: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("rd,rd->r", rows, rows, dtype=np.float64))
