"""`export RUN --format …`, `figures RUN --only …` and `view RUN`: what a finished run shows, as files and as
pages.
"""

import argparse
import json
import sys
import webbrowser
from contextlib import suppress
from pathlib import Path

from emocircuits.cli.options import add_json


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """What the stage `export` also takes; without `--format` it stays the stage."""
    parser.add_argument(
        "--format",
        metavar="NAMES",
        action="append",
        default=[],
        dest="formats",
        help="write only these formats, from the run's files as they are: json, graphml, gexf, dot, svg, "
        "pdf, html, csv, neuronpedia, circuit-tracer, all (comma-separated, repeatable)",
    )
    parser.add_argument("--behaviour", metavar="NAME", help="with --format: only this behaviour")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="with --format: where the files go (default: RUN/export)"
    )
    add_json(parser)


def add_figure_options(parser: argparse.ArgumentParser) -> None:
    """What the stage `figures` also takes; without any of these it stays the stage."""
    parser.add_argument(
        "--only",
        metavar="NAMES",
        action="append",
        default=[],
        help="draw only these figures, from the run's files as they are (comma-separated, repeatable); data "
        "that are missing are an error",
    )
    parser.add_argument(
        "--venue", metavar="NAME", help="column widths of neurips, icml, iclr or page (default: page)"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="where the figures go (default: RUN/figures)")
    add_json(parser)


def add_view(commands: argparse._SubParsersAction) -> None:
    """`emocircuits view`."""
    parser = commands.add_parser(
        "view",
        help="open the circuits of a run in the browser",
        epilog="example: emocircuits view runs/organism --behaviour blackmail",
    )
    parser.add_argument(
        "directory", metavar="RUN", type=Path, help="a run directory, or a circuit_<behaviour>.json"
    )
    parser.add_argument(
        "--behaviour", metavar="NAME", help="only this behaviour (default: all, the first is opened)"
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="where the pages are written (default: RUN/export)"
    )
    parser.add_argument(
        "--serve",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="serve the pages on 127.0.0.1 until Ctrl-C instead of writing them",
    )
    parser.add_argument(
        "--port", metavar="N", type=int, default=0, help="port of --serve (default: a free one)"
    )
    parser.add_argument(
        "--open", action=argparse.BooleanOptionalAction, default=True, help="open the browser"
    )
    parser.set_defaults(call=call_view)


def call_export(arguments: argparse.Namespace) -> int:
    """Writes the asked formats and prints where they lie; what `all` has to leave out is said on stderr."""
    from emocircuits.studies.export_run import export_run, graph_addresses

    done = export_run(arguments.directory, arguments.formats, arguments.behaviour, arguments.out)
    found = [
        {
            "behaviour": name,
            "files": [str(path) for path in one.paths],
            "refused": list(one.refused),
            "addresses": graph_addresses(one),
        }
        for name, one in done.items()
    ]
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    for one in found:
        print("\n".join(one["files"]))
        for line in one["addresses"]:
            print(f"append to the viewer's address to see pins and supernodes: {line}")
        for line in one["refused"]:
            print(f"emocircuits: {line}", file=sys.stderr)
    return 0


def call_figures(arguments: argparse.Namespace) -> int:
    """Draws figures and prints where the contact sheet lies."""
    from emocircuits.figures import write_figures

    names = [name.strip() for text in arguments.only for name in text.split(",") if name.strip()]
    paths = write_figures(
        arguments.directory, arguments.out, only=names or None, venue=arguments.venue or "page"
    )
    print(json.dumps([str(path) for path in paths]) if arguments.json else "\n".join(map(str, paths)))
    return 0


def call_view(arguments: argparse.Namespace) -> int:
    """Opens the page, or serves all of them."""
    from emocircuits.studies.export_run import write_pages

    if arguments.serve:
        return _serve(arguments)
    written = write_pages(arguments.directory, arguments.behaviour, arguments.out)
    for path in written.values():
        print(path)
    if arguments.open and not webbrowser.open(next(iter(written.values())).resolve().as_uri()):
        print("emocircuits: no browser could be started; open the file above yourself", file=sys.stderr)
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    from emocircuits.studies.export_run import pages
    from emocircuits.studies.serve_pages import page_server

    def current() -> dict[str, bytes]:
        return pages(arguments.directory, arguments.behaviour)

    current()  # a run without circuits is refused before anything listens
    with page_server(current, arguments.port) as server:
        address = f"http://{server.server_address[0]}:{server.server_address[1]}/"
        print(f"{address}  (Ctrl-C ends)", flush=True)
        if arguments.open:
            webbrowser.open(address)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0
