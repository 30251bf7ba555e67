"""Options that several commands share."""

import argparse


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """`--quiet / --no-quiet`."""
    parser.add_argument(
        "--quiet", action=argparse.BooleanOptionalAction, default=False, help="no progress on stderr"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json / --no-json`."""
    parser.add_argument(
        "--json", action=argparse.BooleanOptionalAction, default=False, help="print the result as JSON"
    )


def add_trust(parser: argparse.ArgumentParser) -> None:
    """`--trust-remote-code / --no-trust-remote-code`."""
    parser.add_argument(
        "--trust-remote-code",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="let the model directory run its own Python code",
    )
