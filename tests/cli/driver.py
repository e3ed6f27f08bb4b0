"""Executes commands one after the other in one process, as `lantern` would each in its own.

A line of JSON in: the arguments. A line out: exit code, standard output, standard error.
"""

import contextlib
import io
import json
import sys

from lantern import cli


def main() -> None:
    for line in sys.stdin:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.execute(json.loads(line))
        answer = {"code": code, "out": out.getvalue(), "err": err.getvalue()}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
