"""Runs a command that does not outlive its supervisor: `launch.py SUPERVISOR_PID COMMAND [ARGUMENT…]`.

On Linux the kernel kills the command when the thread that started it ends. This is a script between fork and the
command, because a hook inside the fork may deadlock in a process with threads. Imports only the standard library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_CANNOT_RUN = 127


def main() -> None:
    """Replaces this process by the command. Exits with 127 if the command does not exist."""
    supervisor, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
            sys.exit(f"prctl failed: {os.strerror(ctypes.get_errno())}")
        # The supervisor may have died before the line above.
        if os.getppid() != supervisor:
            sys.exit("the supervisor has ended")
    # Only the owner may read state, logs and keys of the command.
    os.umask(0o077)
    # Python ignores these signals; the command gets the default handlers.
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        sys.exit(_CANNOT_RUN)


if __name__ == "__main__":
    main()
