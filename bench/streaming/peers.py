"""The environments of the peers: made on first use under `.peers/`, every version pinned."""

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
PEERS = HERE / ".peers"
UV = HERE.parents[1] / ".venv" / "bin" / "uv"


def ensure(name: str) -> pathlib.Path:
    """The `bin` folder of a peer; installs it when it is missing or its pins have changed."""
    pins, folder = HERE / f"peers-{name}.txt", PEERS / name
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    if stamp.is_file() and stamp.read_bytes() == pins.read_bytes():
        return folder / "bin"
    print(f"installing the peer environment {name} ...", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    if UV.exists():
        install = [UV, "pip", "install", "--quiet", "--python", python]
    else:
        install = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, "--only-binary", ":all:", "-r", pins], check=True)
    stamp.write_bytes(pins.read_bytes())
    return folder / "bin"
