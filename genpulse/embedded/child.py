"""Become another program that cannot outlive its parent: `child.py SIGNAL USER PROGRAM [ARGUMENT...]`.

SIGNAL (a number) is what the kernel sends the program when the parent ends, however it ends; USER
may be empty. Run as a plain file by the bare interpreter (`-I -S`), so it costs milliseconds. The
parent's pid stands in GENPULSE_PARENT, so that a parent that has ended already is noticed too.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1


def drop_to(user: str) -> None:
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.environ["HOME"] = entry.pw_dir


def die_with_parent(signal_number: int, parent: str) -> None:
    """Only Linux knows this; elsewhere the next `up` cleans up what a killed supervisor left."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number)
    if str(os.getppid()) != parent:  # it ended before the line above
        sys.exit(1)


def main(signal_number: str, user: str, *command: str) -> None:
    parent = os.environ.pop("GENPULSE_PARENT", str(os.getppid()))
    if user:
        drop_to(user)  # first: a change of user forgets the signal
    die_with_parent(int(signal_number), parent)
    os.execvp(command[0], command)  # noqa: S606 - a program and its arguments, no shell


if __name__ == "__main__":
    main(*sys.argv[1:])
