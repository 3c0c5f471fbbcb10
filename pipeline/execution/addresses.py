"""Read and try addresses of clusters, before a library waits for minutes for one where nothing listens."""

import socket

ANSWER_SECONDS = 5.0
_HERE = ("localhost", "127.0.0.1", "::1")


def host_port(address: str) -> tuple[str, int] | None:
    """Return the host and the port of HOST:PORT; None for anything else."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        return None
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_here(address: str) -> bool:
    """Return whether an address names this machine by a name that every machine has."""
    found = host_port(address)
    return found is not None and found[0] in _HERE


def connect(host: str, port: int, *, seconds: float = ANSWER_SECONDS) -> None:
    """Connect and leave.

    Raises:
        OSError: nothing answers.
    """
    socket.create_connection((host, port), seconds).close()
