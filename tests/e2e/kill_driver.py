"""Does one stage of a run and is killed (SIGKILL) once so many parts of it are finished.

python kill_driver.py RUN STAGE PARTS
"""

import os
import signal
import sys
from pathlib import Path

from emocircuits.runs import execute
from emocircuits.runs.parts import Parts
from emocircuits.runs.run import Run


class Mortal(Parts):
    """Parts that end the process."""

    finished = 0

    def __call__(self, name, make, *classes):
        value = super().__call__(name, make, *classes)
        type(self).finished += 1
        if type(self).finished == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        return value


if __name__ == "__main__":
    execute.Parts = Mortal
    directory = Path(sys.argv[1])
    execute.run_pipeline(Run.open(directory).recipe, directory, only=sys.argv[2])
