"""`emocircuits view|report|figures|export RUN`: what a finished run shows, from its files as they are."""

import argparse
import json
import sys
import webbrowser
from contextlib import suppress
from pathlib import Path

from emocircuits.cli.output import print_paths
from emocircuits.cli.verb import JSON, NAMES, PATH, RUN, WHOLE, Verb, given, option, switch

CIRCUITS = given("RUN", "a run directory, or a circuit_<behaviour>.json")
BEHAVIOUR = option("--behaviour", "only this behaviour (default: all)", value="NAME")
OPEN = switch("--open", "do not open the browser", on=True)


def show(arguments: argparse.Namespace) -> int:
    """Opens the page, or serves all of them."""
    from emocircuits.studies.export_run import write_pages

    if arguments.serve:
        return _serve(arguments)
    paths = list(write_pages(arguments.run, arguments.behaviour, arguments.out).values())
    return _opened(paths, arguments)


def report(arguments: argparse.Namespace) -> int:
    """Writes the report of a run again and opens it."""
    from emocircuits.errors import UserError
    from emocircuits.report import build_report

    if not (arguments.run / "summary.json").is_file():
        raise UserError(
            f"{arguments.run} holds no finished run", cure=f"emocircuits run --out {arguments.run}"
        )
    return _opened([build_report(arguments.run)], arguments)


def figures(arguments: argparse.Namespace) -> int:
    """Draws figures and prints their files; the contact sheet comes last."""
    from emocircuits.figures import write_figures

    paths = write_figures(arguments.run, arguments.out, only=arguments.only or None, venue=arguments.venue)
    return print_paths(paths, arguments.json)


def export(arguments: argparse.Namespace) -> int:
    """Writes the asked formats and prints where they lie; what `all` has to leave out is said on stderr."""
    from emocircuits.studies.export_run import export_run, graph_addresses

    exported = export_run(arguments.run, arguments.formats, arguments.behaviour, arguments.out)
    rows = [
        {
            "behaviour": name,
            "files": [str(path) for path in done.paths],
            "refused": list(done.refused),
            "addresses": graph_addresses(done),
        }
        for name, done in exported.items()
    ]
    if arguments.json:
        print(json.dumps(rows, ensure_ascii=False))
        return 0
    for row in rows:
        print("\n".join(row["files"]))
        for line in row["addresses"]:
            print(f"append to the viewer's address to see pins and supernodes: {line}")
        for line in row["refused"]:
            print(f"emocircuits: {line}", file=sys.stderr)
    return 0


def _opened(paths: list[Path], arguments: argparse.Namespace) -> int:
    print_paths(paths, arguments.json)
    if arguments.open and not webbrowser.open(paths[0].resolve().as_uri()):
        print("emocircuits: no browser could be started; open the file above yourself", file=sys.stderr)
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    from emocircuits.studies.export_run import pages
    from emocircuits.studies.serve_pages import page_server

    def current() -> dict[str, bytes]:
        return pages(arguments.run, arguments.behaviour)

    current()  # a run without circuits is refused before anything listens
    with page_server(current, arguments.port) as server:
        address = f"http://{server.server_address[0]}:{server.server_address[1]}/"
        print(f"{address}  (Ctrl-C ends)", flush=True)
        if arguments.open:
            webbrowser.open(address)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


VIEW = Verb(
    "view",
    "open the circuits of a run in the browser",
    show,
    (
        CIRCUITS,
        BEHAVIOUR,
        option("--out", "where the pages are written (default: RUN/export)", PATH, value="DIR"),
        switch("--serve", "serve the pages on 127.0.0.1 until Ctrl-C instead of writing them"),
        option("--port", "port of --serve (default: a free one)", WHOLE, 0),
        OPEN,
        JSON,
    ),
    ("emocircuits view runs/organism --behaviour blackmail",),
)
REPORT = Verb(
    "report",
    "write the report of a run again, and open it",
    report,
    (RUN, OPEN, JSON),
    ("emocircuits report runs/organism",),
)
FIGURES = Verb(
    "figures",
    "draw the figures of a run, in a venue's column width",
    figures,
    (
        RUN,
        option("--only", "these figures; data that are missing are an error (default: all)", NAMES, ()),
        option("--venue", "whose columns they fit: neurips, icml, iclr, page", value="NAME", default="page"),
        option("--out", "where they go (default: RUN/figures)", PATH, value="DIR"),
        JSON,
    ),
    ("emocircuits figures runs/organism --only steering,faithfulness --venue icml",),
)
EXPORT = Verb(
    "export",
    "write the circuits of a run for other programs",
    export,
    (
        CIRCUITS,
        option(
            "--formats",
            "json, graphml, gexf, dot, svg, pdf, html, csv, neuronpedia, circuit-tracer",
            NAMES,
            ("all",),
            was="--format",
        ),
        BEHAVIOUR,
        option("--out", "where the files go (default: RUN/export)", PATH, value="DIR"),
        JSON,
    ),
    ("emocircuits export runs/organism --formats html,graphml --behaviour blackmail",),
)
