"""`emocircuits store info|verify|merge`."""

import argparse
import json
from pathlib import Path
from typing import Any

from emocircuits.cli.options import add_json, add_quiet

COUNTED = ("kind", "emotion", "behaviour", "side", "split")


def add(commands: argparse._SubParsersAction) -> None:
    """`emocircuits store`."""
    parser = commands.add_parser(
        "store",
        help="activation stores: what is in one, is it whole, join several",
        epilog="example: emocircuits store info runs/organism/activations.h5",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    info = verbs.add_parser(
        "info",
        help="sites, rows, labels, and what a row filter leaves out",
        epilog="example: emocircuits store info runs/organism/activations.h5 --norm-multiple 10",
    )
    info.add_argument("path", type=Path, metavar="STORE", help="an activations.h5")
    info.add_argument(
        "--skip-positions",
        type=int,
        default=1,
        metavar="N",
        help="leading positions to leave out (default: 1)",
    )
    info.add_argument(
        "--skip-token",
        type=int,
        action="append",
        default=[],
        metavar="ID",
        help="a token id to leave out wherever it stands (repeatable)",
    )
    info.add_argument(
        "--norm-multiple",
        type=float,
        metavar="X",
        help="leave out rows above X times the site's median norm (reads every row)",
    )
    add_json(info)
    info.set_defaults(call=call_info)

    verify = verbs.add_parser(
        "verify",
        help="read every shard and compare its hash; exit code 2 when one differs",
        epilog="example: emocircuits store verify runs/organism/activations.h5",
    )
    verify.add_argument("path", type=Path, metavar="STORE", help="an activations.h5")
    add_quiet(verify)
    add_json(verify)
    verify.set_defaults(call=call_verify)

    merge = verbs.add_parser(
        "merge",
        help="join stores of the same model and sites (resumes after an interruption)",
        epilog="example: emocircuits store merge all.h5 part-1.h5 part-2.h5",
    )
    merge.add_argument("out", type=Path, metavar="OUT", help="the store to write")
    merge.add_argument(
        "paths", type=Path, nargs="+", metavar="STORE", help="the stores to join, in this order"
    )
    merge.add_argument(
        "--shard-rows", type=int, metavar="N", help="most rows of a shard (default: chosen by size)"
    )
    add_quiet(merge)
    merge.set_defaults(call=call_merge)


def call_info(arguments: argparse.Namespace) -> int:
    """Prints what is in a store."""
    from emocircuits.artifacts.store.activation_store import ActivationStore
    from emocircuits.artifacts.store.row_filter import RowFilter, filter_rows

    chosen = RowFilter(arguments.skip_positions, tuple(arguments.skip_token), arguments.norm_multiple)
    store = ActivationStore.open(arguments.path)
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


def call_verify(arguments: argparse.Namespace) -> int:
    """Checks every shard against its hash."""
    from emocircuits.artifacts.store.activation_store import ActivationStore

    store = ActivationStore.open(arguments.path)
    store.verify()
    if arguments.json:
        found = {
            "path": str(store.path),
            "shards": len(store.shards),
            "content_hash": store.content_hash,
            "ok": True,
        }
        print(json.dumps(found))
    else:
        print(
            f"ok  {store.path}: {len(store.shards)} shards, {store.n_rows} rows, content hash "
            f"{store.content_hash}"
        )
    return 0


def call_merge(arguments: argparse.Namespace) -> int:
    """Joins stores and prints where the new one lies."""
    from emocircuits.artifacts.store.merge import merge_stores

    store = merge_stores(arguments.paths, arguments.out, shard_rows=arguments.shard_rows)
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
