"""Work in a process next to this one: drawing keeps the interpreter to itself, so threads would only take
turns.

The other process is started afresh, without what this one holds in memory, and nothing of the program that
called us runs in it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from emocircuits.errors import Failure

COMMAND = "import json, sys; from {module} import {name}; {name}(**json.loads(sys.argv[1]))"


@contextmanager
def apart(module: str, name: str, arguments: Mapping[str, Any]) -> Iterator[None]:
    """Another process calls a function while the code inside runs here; the end of both is waited for.

    Args:
        module, name: where the function lies, and its name.
        arguments: what it is called with, as JSON can hold it.

    Raises:
        Failure: the process failed; it has said why on standard error.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(module=module, name=name), json.dumps(arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    try:
        yield
        if process.wait() != 0:
            raise Failure(f"the process for {module}.{name} ended with status {process.returncode}")
    finally:
        process.kill()
        process.wait()
