"""Runs a command so that it can't outlive whoever started it: `launch.py SUPERVISOR_PID COMMAND [ARGUMENT…]`.

On Linux the kernel kills the command when the thread that started it ends. Run as a script between fork and the
command, and not as a hook inside the fork: code there may deadlock in a process with threads. Imports nothing of ours.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_CANNOT_RUN = 127


def main() -> None:
    """Becomes the command. Ends with 127 when there is no such command."""
    supervisor, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
            sys.exit(f"prctl failed: {os.strerror(ctypes.get_errno())}")
        # The supervisor may have died before the line above.
        if os.getppid() != supervisor:
            sys.exit("the supervisor is gone")
    # State, logs and keys of a child are its owner's.
    os.umask(0o077)
    # Python ignores these for itself; a command should find them as they were.
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        sys.exit(_CANNOT_RUN)


if __name__ == "__main__":
    main()
