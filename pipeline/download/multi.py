"""Drive libcurl's multi interface with epoll: the cost grows with events, not with open transfers."""

import contextlib
import math
import select
import socket
import time
from typing import Any

import pycurl

_READ = getattr(select, "EPOLLIN", select.POLLIN)
_WRITE = getattr(select, "EPOLLOUT", select.POLLOUT)
_MASKS = {pycurl.POLL_IN: _READ, pycurl.POLL_OUT: _WRITE, pycurl.POLL_INOUT: _READ | _WRITE}

Finished = tuple[Any, int, str]
"""(easy handle, libcurl's error code or 0, its message)"""


class Multi:
    """Drive easy handles. Not thread-safe, except for `wake`.

    Args:
        connections: maximum idle connections kept for reuse.
    """

    def __init__(self, connections: int) -> None:
        self._due: float | None = None
        self._poller = _Poller()
        self._awake, self._waker = socket.socketpair()
        self._awake.setblocking(False)
        self._waker.setblocking(False)
        self._poller.set(self._awake.fileno(), _READ)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)
        self._multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)

    def add(self, handle: Any) -> None:
        """Start a transfer."""
        self._multi.add_handle(handle)

    def remove(self, handle: Any) -> None:
        """Remove a finished transfer, or abort a running one."""
        self._multi.remove_handle(handle)

    def wake(self) -> None:
        """End a `wait` early. Thread-safe."""
        with contextlib.suppress(OSError):  # the buffer is full (a wake-up is pending) or closed
            self._waker.send(b"\0")

    def wait(self, timeout_s: float) -> list[Finished]:
        """Wait up to `timeout_s` seconds for events, let libcurl handle them, return the transfers that ended."""
        if self._due is not None:
            timeout_s = min(timeout_s, self._due - time.monotonic())
        for descriptor, events in self._poller.wait(max(0.0, timeout_s)):
            if descriptor == self._awake.fileno():
                self._drain()
                continue
            bits = (pycurl.CSELECT_IN if events & _READ else 0) | (pycurl.CSELECT_OUT if events & _WRITE else 0)
            if events & ~(_READ | _WRITE):
                bits |= pycurl.CSELECT_ERR
            self._multi.socket_action(descriptor, bits)
        if self._due is not None and self._due <= time.monotonic():
            self._due = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        return self._finished()

    def close(self) -> None:
        """Close every connection. Transfers must have been removed before."""
        self._multi.close()
        self._poller.close()
        self._awake.close()
        self._waker.close()

    def _finished(self) -> list[Finished]:
        finished: list[Finished] = []
        queued = 1
        while queued:
            queued, good, bad = self._multi.info_read()
            finished.extend((handle, 0, "") for handle in good)
            finished.extend(bad)
        return finished

    def _drain(self) -> None:
        try:
            while self._awake.recv(4096):
                pass
        except BlockingIOError:
            pass

    def _on_socket(self, what: int, descriptor: int, _multi: object, _data: object) -> None:
        if what == pycurl.POLL_REMOVE:
            self._poller.unset(descriptor)
        elif what in _MASKS:
            self._poller.set(descriptor, _MASKS[what])

    def _on_timer(self, timeout_ms: int) -> None:
        self._due = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000


class _Poller:
    """Poll descriptors with epoll where available, else with poll."""

    def __init__(self) -> None:
        self._epoll = hasattr(select, "epoll")
        self._poll: Any = select.epoll() if self._epoll else select.poll()
        self._known: set[int] = set()

    def set(self, descriptor: int, mask: int) -> None:
        if descriptor in self._known:
            try:
                self._poll.modify(descriptor, mask)
                return
            except FileNotFoundError:
                pass  # closed and reopened with the same number
        self._poll.register(descriptor, mask)
        self._known.add(descriptor)

    def unset(self, descriptor: int) -> None:
        if descriptor in self._known:
            self._known.discard(descriptor)
            with contextlib.suppress(KeyError, OSError):  # libcurl closed it first
                self._poll.unregister(descriptor)

    def wait(self, timeout_s: float) -> list[tuple[int, int]]:
        # Both round up to a millisecond: rounded down, the end of a wait would be a busy loop.
        timeout = timeout_s if self._epoll else math.ceil(timeout_s * 1000)
        events: list[tuple[int, int]] = self._poll.poll(timeout)
        return events

    def close(self) -> None:
        if self._epoll:
            self._poll.close()
