"""A process that has everything imported and forks others that do as they are told, so that each starts at once.

It never touches a table itself: what is forked after that would share threads that are not there any more. A line on
stdin is a JSON list of the name of a job in `jobs.py`, its arguments by name, and variables to set; the answer is a
process id. A line with a number waits for that process, and the answer is its status as waitpid gives it.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent


class Nest:
    """The process, from outside."""

    def __init__(self, home: Path, *, ready: Sequence[str] = ()) -> None:
        """`ready` are more modules that it has imported when it forks."""
        environment = {**os.environ, "MEMOS_HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.nest", *ready],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT,
        )  # fmt: skip

    def start(self, job: str, *, variables: dict[str, str] | None = None, **arguments: Any) -> int:
        """Starts a job in a process of its own; its id."""
        return self._ask(json.dumps([job, arguments, variables or {}]))

    def wait(self, pid: int) -> int:
        """The status that a process ended with."""
        return self._ask(str(pid))

    def close(self) -> None:
        """Ends the nest; what it forked must have ended."""
        # closes both ends and waits
        self._process.__exit__(None, None, None)

    def _ask(self, line: str) -> int:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def main() -> None:
    """Answers line by line until stdin ends."""
    # lancedb warns of forks; nothing of it runs here before one
    warnings.simplefilter("ignore")
    import lancedb  # noqa: F401, TID253
    import pyarrow.dataset  # noqa: F401, TID253

    from memos_cli.interface import changes, forgetting, ingestion, looking, querying  # noqa: F401
    from tests.torture import jobs

    for module in sys.argv[1:]:
        importlib.import_module(module)
    for line in sys.stdin:
        told = json.loads(line)
        if isinstance(told, int):
            answer = os.waitpid(told, 0)[1]
        else:
            name, arguments, variables = told
            answer = os.fork()
            if answer == 0:
                _do(getattr(jobs, name), arguments, variables)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _do(job: Any, arguments: dict[str, Any], variables: dict[str, str]) -> None:
    from memos_cli.errors import MemosError

    status = 70
    os.environ.update(variables)
    try:
        job(**arguments)
        status = 0
    except MemosError as error:
        status = error.exit_code
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
