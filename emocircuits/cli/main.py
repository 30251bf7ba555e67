"""`emocircuits`: the entry point. Heavy libraries load only when a command needs them."""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence

from emocircuits import __version__
from emocircuits.cli import (
    cost,
    directions,
    doctor,
    graphs,
    match,
    monitor,
    organism,
    run,
    sae,
    steer,
    store,
    trace,
)
from emocircuits.errors import EmocircuitsError
from emocircuits.progress import quiet
from emocircuits.ranks import launched

COMMANDS: tuple[Callable[[argparse._SubParsersAction], None], ...] = (
    run.add_run,
    run.add_stages,
    graphs.add_view,
    directions.add_verbs,
    sae.add_verbs,
    match.add_verbs,
    steer.add_verbs,
    trace.add,
    organism.add,
    store.add,
    monitor.add,
    cost.add,
    doctor.add,
)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="emocircuits",
        description="Traces emotion directions through SAE feature circuits to behaviour, with controls.",
        epilog="example: emocircuits run            the embedded recipe on the model "
        "that ships with the package",
    )
    parser.add_argument("--version", action="version", version=f"emocircuits {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, 2 for a mistake in the input, 1 for a failure, 130 for
    Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    for group in (directions, sae, match, steer):
        given = group.rewrite(given)
    parsed = build_parser().parse_args(given)
    try:
        with quiet(getattr(parsed, "quiet", False)):
            return parsed.call(parsed) or 0
    except EmocircuitsError as error:
        return _report(str(error), error.exit_code, error)
    except KeyboardInterrupt:
        why = "interrupted" if launched().alone else "stopped with the other ranks"
        return _report(f"{why}; finished work is kept, the same command goes on from here", 130, None)
    except MemoryError as error:
        return _report("out of memory; lower attribute.max_tokens or sae.batch_size with --set", 1, error)
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        return _report(f"system error{where}: {error.strerror or error}; finished stages are kept", 1, error)
    except Exception as error:
        return _report(
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'} "
            "(EMOCIRCUITS_TRACEBACK=1 shows where)",
            1,
            error,
        )


def entry() -> None:
    """Console script."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = main()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _report(text: str, code: int, error: BaseException | None) -> int:
    if error is not None and os.environ.get("EMOCIRCUITS_TRACEBACK"):
        traceback.print_exception(error)
    name = "emocircuits" if launched().alone else f"emocircuits, rank {launched().rank}"
    print(f"{name}: {' '.join(text.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    entry()
