"""Where a server's CPU goes: py-spy while a scenario runs, the functions with most time of their own."""

import collections
import contextlib
import pathlib
import subprocess

import peers

RATE = 100  # samples a second; each one stops the server for a moment
TOP = 15


@contextlib.contextmanager
def watch(pid: int, folded: pathlib.Path):
    """Sample the process while the block runs, then print the top."""
    tool = peers.ensure("tools") / "py-spy"
    # --gil: only who holds the interpreter, so that waiting threads are not counted as work.
    command = [tool, "record", "--gil", "--pid", pid, "--rate", RATE, "--format", "raw"]
    process = subprocess.Popen(
        [*map(str, command), "--output", folded, "--duration", "600"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield
    finally:
        process.send_signal(2)  # as Ctrl-C: py-spy writes what it has
        complaint = process.communicate(timeout=30)[1]
    print(report(folded) if folded.exists() else f"no profile: {complaint}")


def report(folded: pathlib.Path) -> str:
    """Share of the samples: in the function itself, and in it or below it."""
    own: collections.Counter = collections.Counter()
    below: collections.Counter = collections.Counter()
    for text in folded.read_text().splitlines():
        stack, _, count = text.rpartition(" ")
        frames = [frame.rsplit(":", 1)[0] for frame in stack.split(";")]
        own[frames[-1]] += int(count)
        for frame in {*frames}:
            below[frame] += int(count)
    total = max(1, own.total())
    lines = [f"  {'own %':>6} {'all %':>6}  function ({total} samples)"]
    for frame, count in own.most_common(TOP):
        share, whole = 100 * count / total, 100 * below[frame] / total
        lines.append(f"  {share:6.1f} {whole:6.1f}  {frame}")
    return "\n".join(lines)
