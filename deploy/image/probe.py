"""A health check without a shell: `probe.py HOST:PORT[/PATH]` exits 0 if it connects; with a path, if it gets a 200."""

import socket
import sys


def main() -> int:
    """Returns the exit code."""
    address, slash, path = sys.argv[1].partition("/")
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2) as connection:
            if not slash:
                return 0
            connection.sendall(f"GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            answer = connection.makefile("rb").readline().split()
    except OSError as error:
        sys.stderr.write(f"{sys.argv[1]}: {error}\n")
        return 1
    return 0 if answer[1:2] == [b"200"] else 1


if __name__ == "__main__":
    sys.exit(main())
