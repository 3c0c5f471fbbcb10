"""Ask web servers for files with requests, and again after transient failures with tenacity, heeding Retry-After."""

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import requests
import tenacity
import urllib3

from openwit import __version__
from openwit.schemas.common.errors import DataError, NetworkError, RecipeError, one_line
from openwit.schemas.common.stopping import stop_if_asked

USER_AGENT = f"OpenWIT/{__version__} (+https://github.com/openwit/openwit)"
_CHUNK = 1 << 18
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_GONE = frozenset({404, 410})
_CUT = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.HTTPError,
)

T = TypeVar("T")


class PassingError(Exception):
    """A failure that another attempt may not have.

    Attributes:
        retry_after_s: how long the server asks to wait.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class MissingError(DataError):
    """The server has no such file."""


@dataclass(frozen=True)
class Patience:
    """How long a server is given.

    Attributes:
        attempts: failures in a row, without a byte in between, after which it is given up.
        first_s, longest_s: the wait after the first failure, doubled after each further one, up to the longest.
        asked_s: the longest Retry-After that is heeded; a longer one ends the command.
        silent_s: seconds without a byte after which a connection is given up.
        first_attempts: as `attempts`, before anything was fetched: without a network one waits for seconds only.
    """

    attempts: int = 7
    first_attempts: int = 4
    first_s: float = 1.0
    longest_s: float = 60.0
    asked_s: float = 600.0
    silent_s: float = 60.0


@dataclass(frozen=True)
class Version:
    """What tells a version of a file from another: what the server says of it.

    Attributes:
        etag, modified: headers `ETag` and `Last-Modified`, "" for none.
        size: bytes of the whole file, None if the server does not say.
    """

    etag: str = ""
    modified: str = ""
    size: int | None = None

    @property
    def validator(self) -> str:
        """Return what `If-Range` may hold; "" if nothing tells this version from others (RFC 9110 section 13.1.5)."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    def is_of(self, other: "Version") -> bool:
        """Return whether something that tells versions apart is said of both and equal, and nothing differs."""
        told = [(self.etag, other.etag), (self.modified, other.modified)]
        both = [(one, another) for one, another in told if one and another]
        sizes = self.size is None or other.size is None or self.size == other.size
        return bool(both) and sizes and all(one == another for one, another in both)


class Client:
    """Ask servers; each thread has connections of its own, all are given up when `stop` is set."""

    def __init__(self, patience: Patience | None = None, user_agent: str = USER_AGENT) -> None:
        self.patience = patience or Patience()
        self.stop = threading.Event()
        self._user_agent = user_agent
        self._local = threading.local()

    def version(self, url: str) -> Version:
        """Return what the server says of a file.

        Raises:
            MissingError: there is none.
            NetworkError: the server cannot be reached, or refuses.
        """

        def ask() -> Version:
            with self._send("HEAD", url, {}) as response:
                if response.status_code in (405, 501):
                    return Version()  # a server that answers GET only
                self.check(response)
                return version_of(response)

        return self.again(ask, url)

    def read(self, url: str, most: int) -> bytes:
        """Return a small file.

        Raises:
            MissingError: there is none.
            DataError: it has more than `most` bytes.
            NetworkError: the server cannot be reached, or refuses.
        """

        def ask() -> bytes:
            found = bytearray()
            with self._send("GET", url, {}) as response:
                self.check(response)
                for chunk in self.chunks(response):
                    found += chunk
                    if len(found) > most:
                        raise DataError(f"{url} holds more than {most:,} bytes, which is no such list")
                size = version_of(response).size
                if size is not None and len(found) < size:
                    raise PassingError(f"the connection was cut after {len(found):,} of {size:,} bytes")
            return bytes(found)

        return self.again(ask, url)

    def open(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """Send one GET request, without attempts of its own; see `again`."""
        return self._send("GET", url, headers)

    def chunks(self, response: requests.Response) -> Any:
        """Yield the bytes of a body as they were sent."""
        while True:
            self.stop_if_asked()
            try:
                chunk = response.raw.read(_CHUNK, decode_content=False)
            except (*_CUT, OSError) as error:
                raise PassingError(f"the connection was lost ({_short(error)})") from error
            if not chunk:
                return
            yield chunk

    def check(self, response: requests.Response) -> None:
        """Raise the error that a response's status means; pass for 2xx."""
        status, url = response.status_code, response.request.url or ""
        if 200 <= status < 300:
            return
        if status in _GONE:
            raise MissingError(f"{url} does not exist (HTTP {status})")
        if status in _PASSING:
            wait = retry_after(response.headers)
            if wait > self.patience.asked_s:
                raise NetworkError(
                    f"{url}: the server asks to come back in {wait / 60:,.0f} minutes (HTTP {status}): "
                    "run the same command then"
                )
            raise PassingError(f"the server answers HTTP {status}", wait)
        raise NetworkError(f"{url}: the server refuses (HTTP {status})")

    def again(self, work: Callable[[], T], url: str, progress: Callable[[], int] | None = None) -> T:
        """Call `work` until it succeeds or its patience is at its end.

        Args:
            work: raises PassingError for what another attempt may not have.
            url: for the message.
            progress: of a download, bytes that have arrived; failures with progress between them are not in a row.

        Raises:
            NetworkError: the last of too many failures in a row.
        """
        attempts = self.patience.first_attempts if progress is None else self.patience.attempts
        arrived = progress or (lambda: 0)
        state = {"failures": 0, "progress": arrived()}

        def is_passing(attempt: tenacity.RetryCallState) -> bool:
            error = attempt.outcome.exception() if attempt.outcome is not None else None
            if not isinstance(error, PassingError) or self.stop.is_set():
                return False
            now = arrived()
            state["failures"] = 1 if now > state["progress"] else state["failures"] + 1
            state["progress"] = now
            return True

        def wait(attempt: tenacity.RetryCallState) -> float:
            error = attempt.outcome.exception() if attempt.outcome is not None else None
            patience = self.patience
            backoff = min(patience.longest_s, patience.first_s * 2.0 ** (state["failures"] - 1))
            asked = error.retry_after_s if isinstance(error, PassingError) else 0.0
            return max(asked, backoff * random.uniform(0.5, 1.0))

        retrying = tenacity.Retrying(
            retry=is_passing,
            stop=lambda _: state["failures"] >= attempts,
            wait=wait,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(work)
        except PassingError as error:
            self.stop_if_asked()
            kept = "; what has arrived is kept: run the same command to go on" if progress is not None else ""
            raise NetworkError(f"{url} cannot be fetched: {error}, {attempts} times in a row{kept}") from error

    def stop_if_asked(self) -> None:
        """Raise if the command was asked to stop, or another file has failed."""
        stop_if_asked()
        if self.stop.is_set():
            raise CancelledError

    def _sleep(self, seconds: float) -> None:
        self.stop.wait(seconds)
        self.stop_if_asked()

    def _send(self, method: str, url: str, headers: Mapping[str, str]) -> requests.Response:
        session = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            # The files are compressed as they are; another coding on top would be undone in the wrong place.
            session.headers.update({"User-Agent": self._user_agent, "Accept-Encoding": "identity"})
        timeout = (min(20.0, self.patience.silent_s), self.patience.silent_s)
        try:
            response: requests.Response = session.request(
                method, url, headers=dict(headers), stream=True, timeout=timeout, allow_redirects=True
            )
        except requests.exceptions.SSLError as error:
            raise NetworkError(f"{url}: the server's certificate cannot be verified ({_short(error)})") from error
        except _CUT as error:
            raise PassingError(f"the server cannot be reached ({_short(error)})") from error
        except requests.TooManyRedirects as error:
            raise NetworkError(f"{url}: the server redirects in a circle") from error
        except (requests.RequestException, ValueError) as error:
            raise RecipeError(f"{url} is no address that can be asked: {one_line(error)}") from error
        return response


class CancelledError(Exception):
    """Another file has failed, or the command was stopped: the work on this one ends."""


def version_of(response: requests.Response) -> Version:
    """Return what a response says of the whole file, of a range too."""
    headers = response.headers
    size = headers.get("Content-Length", "")
    if response.status_code == 206:
        size = headers.get("Content-Range", "").rpartition("/")[2]
    return Version(headers.get("ETag", ""), headers.get("Last-Modified", ""), int(size) if size.isdigit() else None)


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that `Retry-After` asks to wait, 0 for none; a date counts from the server's own clock."""
    value = headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        asked, now = parsedate_to_datetime(value), parsedate_to_datetime(headers["Date"])
        return max(0.0, float((asked - now).total_seconds()))
    except (ValueError, TypeError, KeyError):
        return 0.0


def _short(error: BaseException) -> str:
    """Return the innermost reason of a failed connection, without the objects that urllib3 prints."""
    text = one_line(error)
    for word in ("Name or service not known", "Temporary failure in name resolution", "Connection refused"):
        if word.lower() in text.lower():
            return word.lower()
    if "timed out" in text.lower() or "timeout" in text.lower():
        return "no answer in time"
    return text[-120:].strip("()'\" ")
