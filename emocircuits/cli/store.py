"""`emocircuits store info|verify|merge`."""

import argparse
import json
from typing import Any

from emocircuits.cli.verb import JSON, NUMBER, PATH, QUIET, WHOLE, WHOLES, Noun, Verb, given, option

COUNTED = ("kind", "emotion", "behaviour", "side", "split")
STORE = given("STORE", "an activations.h5")


def info(arguments: argparse.Namespace) -> int:
    """Prints what is in a store."""
    from emocircuits.artifacts.store.activation_store import ActivationStore
    from emocircuits.artifacts.store.row_filter import RowFilter, filter_rows

    chosen = RowFilter(arguments.skip_positions, arguments.skip_tokens, arguments.norm_multiple)
    store = ActivationStore.open(arguments.store)
    _, report = filter_rows(store, chosen)
    value: dict[str, Any] = {
        "path": str(store.path),
        "model_name": store.metadata.get("model_name"),
        "model_hash": store.metadata.get("model_hash"),
        "content_hash": store.content_hash,
        "sites": list(store.sites),
        "d_model": store.d_model,
        "dtype": store.dtype,
        "rows": store.n_rows,
        "prompts": store.n_prompts,
        "shards": len(store.shards),
        "bytes": sum(file.stat().st_size for file in store.files),
        "labels": {name: _counts(store.prompts[name]) for name in COUNTED if name in store.prompts},
        "filter": {
            "skip_positions": chosen.skip_positions,
            "skip_tokens": list(chosen.skip_tokens),
            "max_norm_multiple": chosen.max_norm_multiple,
            "sink_rows": report.sink_rows,
            "token_rows": report.token_rows,
            "norm_rows": report.norm_rows,
            "kept": report.kept,
            "norm_rows_by_site": dict(report.norm_rows_by_site),
            "median_norms": dict(report.median_norms),
        },
    }
    print(json.dumps(value, ensure_ascii=False) if arguments.json else _text(value))
    return 0


def verify_store(arguments: argparse.Namespace) -> int:
    """Checks every shard against its hash."""
    from emocircuits.artifacts.store.activation_store import ActivationStore

    store = ActivationStore.open(arguments.store)
    store.verify()
    if arguments.json:
        checked = {
            "path": str(store.path),
            "shards": len(store.shards),
            "content_hash": store.content_hash,
            "ok": True,
        }
        print(json.dumps(checked))
    else:
        print(
            f"ok  {store.path}: {len(store.shards)} shards, {store.n_rows} rows, content hash "
            f"{store.content_hash}"
        )
    return 0


def merge(arguments: argparse.Namespace) -> int:
    """Joins stores and prints where the new one lies."""
    from emocircuits.artifacts.store.merge import merge_stores

    store = merge_stores(arguments.store, arguments.out, shard_rows=arguments.shard_rows)
    if arguments.json:
        print(json.dumps({"path": str(store.path), "prompts": store.n_prompts, "rows": store.n_rows}))
    else:
        print(f"{store.path}  {store.n_prompts} prompts, {store.n_rows} rows")
    return 0


def _counts(column: Any) -> dict[str, int]:
    return {str(label): int(count) for label, count in column.value_counts().sort_index().items()}


def _text(value: dict[str, Any]) -> str:
    rows, left = value["rows"], value["filter"]
    lines = [
        f"store         {value['path']}",
        f"model         {value['model_name']} ({str(value['model_hash'])[:12]})",
        f"content hash  {value['content_hash']}",
        (
            f"rows          {rows:,} of {value['prompts']:,} prompts, d_model "
            f"{value['d_model']}, {value['dtype']}"
        ),
        f"size          {value['bytes'] / 1e6:,.1f} MB in {value['shards']} shards",
        f"sites         {len(value['sites'])}: {', '.join(value['sites'])}",
    ]
    for name, counts in value["labels"].items():
        shown = [f"{label or '(none)'} {count}" for label, count in counts.items()]
        more = f", … ({len(shown)} in all)" if len(shown) > 8 else ""
        lines.append(f"{name:<13} {', '.join(shown[:8])}{more}")
    lines.append(f"sink rows     {left['sink_rows']:,} at the first {left['skip_positions']} positions")
    if left["skip_tokens"]:
        lines.append(
            f"token rows    {left['token_rows']:,} with the token ids "
            f"{', '.join(map(str, left['skip_tokens']))}"
        )
    if left["max_norm_multiple"] is not None:
        multiple = left["max_norm_multiple"]
        lines.append(f"norm rows     {left['norm_rows']:,} above {multiple:g} × the median norm at any site")
        lines += [
            f"  {site:<30} median norm {median:.4g}, {left['norm_rows_by_site'][site]:,} rows above"
            for site, median in left["median_norms"].items()
        ]
    lines.append(f"left          {left['kept']:,} rows ({left['kept'] / rows:.1%})")
    return "\n".join(lines)


NOUN = Noun(
    "store",
    "activation stores",
    (
        Verb(
            "store info",
            "sites, rows, labels, and what a row filter leaves out",
            info,
            (
                STORE,
                option("--skip-positions", "leading positions to leave out", WHOLE, 1),
                option(
                    "--skip-tokens",
                    "token ids to leave out wherever they stand",
                    WHOLES,
                    (),
                    was="--skip-token",
                ),
                option(
                    "--norm-multiple",
                    "leave out rows above X times the site's median norm (reads every row)",
                    NUMBER,
                ),
                JSON,
            ),
            ("emocircuits store info runs/organism/activations.h5 --norm-multiple 10",),
        ),
        Verb(
            "store verify",
            "read every shard and compare its hash",
            verify_store,
            (STORE, JSON, QUIET),
            ("emocircuits store verify runs/organism/activations.h5",),
            "The exit code is 2 when one differs.",
        ),
        Verb(
            "store merge",
            "join stores of the same model and sites",
            merge,
            (
                given("STORE", "the stores to join, in this order", many=True),
                option("--out", "the store to write", PATH, required=True),
                option("--shard-rows", "most rows of a shard (default: chosen by size)", WHOLE),
                JSON,
                QUIET,
            ),
            ("emocircuits store merge part-1.h5 part-2.h5 --out all.h5",),
            "The same command resumes after an interruption.",
        ),
    ),
)
