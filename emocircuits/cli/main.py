"""`emocircuits`: the entry point. Heavy libraries load only when a command needs them."""

import gc
import os
import signal
import sys
import traceback
from collections.abc import Sequence

from emocircuits import __version__
from emocircuits.allocator import keep_freed_memory
from emocircuits.cli.help import noun_help, overview, verb_help
from emocircuits.cli.parse import HELP, find, parse
from emocircuits.cli.verb import Noun
from emocircuits.errors import EmocircuitsError
from emocircuits.progress import quiet
from emocircuits.ranks import launched


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, 2 for a mistake in the input, 1 for a failure, 130 for
    Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _do(words)
    except EmocircuitsError as error:
        return _report(str(error), error.exit_code, error)
    except KeyboardInterrupt:
        why = "interrupted" if launched().alone else "stopped with the other ranks"
        return _report(f"{why}; finished work is kept, the same command resumes here", 130, None)
    except MemoryError as error:
        return _report("out of memory; lower attribute.max_tokens or sae.batch_size with --set", 1, error)
    except BrokenPipeError:
        return 0
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


def _do(words: list[str]) -> int:
    if words == ["--version"]:
        print(f"emocircuits {__version__}")
        return 0
    if not words or words[0] in HELP:
        print(overview())
        return 0
    command, rest = find(words)
    if isinstance(command, Noun):
        print(noun_help(command))
        return 0
    if any(word in HELP for word in rest):
        print(verb_help(command))
        return 0
    arguments = parse(command, rest)
    with quiet(getattr(arguments, "quiet", False)):
        return command.call(arguments)


def entry() -> None:
    """Console script."""
    # Sites, prompts and behaviours are worked on side by side, a thread each. Threads that numpy adds to its
    # small products would wait for each other, spinning; OpenBLAS reads this when numpy is loaded.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    keep_freed_memory()
    # torch and its libraries hold millions of objects; looking through them for cycles as often as Python
    # does by default takes a tenth of a small model's run
    gc.set_threshold(50_000, 20, 20)
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
