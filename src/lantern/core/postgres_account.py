"""As whom Postgres runs. It refuses root; nothing here adds users or loosens permissions.

Started by root, in this order: a user namespace in which root's own uid bears another number, so
that every file stays root's; else the owner of the data directory or `nobody`.
"""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lantern.core.postgres_binaries import PostgresFailed

# Keys and addresses of the caller's environment are none of the server's business.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs Postgres: `uid` (None: as this process) and the command that goes before it."""

    uid: int | None = None
    gid: int | None = None
    prefix: tuple[str, ...] = ()

    def options(self) -> dict[str, Any]:
        """What `subprocess` needs to become this account."""
        env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        options: dict[str, Any] = {"cwd": "/", "env": env | {"LC_ALL": "C", "TZ": "UTC"}}
        if self.uid is not None:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return options

    def run(
        self, *argv: str | Path, text: str = "", keep: tuple[int, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, `text` on its standard input; output and errors come joined.

        `keep` are handles that it inherits.
        """
        return subprocess.run(
            [*self.prefix, *argv],
            check=False,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            umask=0o077,
            pass_fds=keep,
            **self.options(),
        )

    def reaches(self, folder: Path) -> bool:
        """Whether it may enter the folder, all parents included, and own what is in it."""
        script = 'cd "$1" && test -O . && test -w .'
        return self.run("/bin/sh", "-c", script, "sh", folder).returncode == 0

    def runs(self, program: Path) -> bool:
        """Whether it may run the program, all parents included."""
        try:
            return self.run(program, "--version").returncode == 0
        except OSError:
            return False

    def own(self, path: Path) -> None:
        """Hand over a file or folder that this process just made."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def choose(owner: int, *, new: bool, namespaces: bool = True) -> Account:
    """The account for a cluster, `new` or not, in a folder of the uid `owner`.

    `namespaces` false leaves user namespaces out.
    """
    if os.geteuid() != 0:
        # initdb wants a name for its uid; an arbitrary uid in a container has none.
        masked = new and namespaces and not _known(os.geteuid())
        return Account(prefix=_namespace() if masked else ())
    if owner != 0 and (not new or _known(owner)):
        return Account(owner, pwd.getpwuid(owner).pw_gid if _known(owner) else owner)
    prefix = _namespace() if namespaces else ()
    if prefix:
        return Account(prefix=prefix)
    nobody = _nobody()
    return Account(nobody.pw_uid, nobody.pw_gid)


def _namespace() -> tuple[str, ...]:
    # The kernel, a container or a policy may forbid it: try it, do not guess.
    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    uid = str(_nobody().pw_uid)
    prefix = (unshare, "--user", f"--map-user={uid}", f"--map-group={uid}", "--")
    trial = Account(prefix=prefix).run("/bin/sh", "-c", "id -u")
    return prefix if trial.stdout.strip() == uid else ()


def _nobody() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        others = [entry for entry in pwd.getpwall() if entry.pw_uid != 0]
    if not others:
        raise PostgresFailed(
            "Postgres refuses to run as root and this system has no other user: start as another"
            " user, or set LANTERN_DATABASE_URL"
        )
    return others[-1]


def _known(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
