"""Define how a download can end: a closed list of statuses, which of them to retry, and the record of one download."""

from dataclasses import dataclass

import pycurl

from openwit.pipeline.common.reasons import ReasonEnum


class FetchStatus(ReasonEnum):
    """The status of one URL's download."""

    SUCCESS = "success", "arrived, decoded and brought to size"
    # Nothing was sent.
    BAD_URL = "bad_url", "the address is no URL"
    UNSUPPORTED_SCHEME = "unsupported_scheme", "neither http nor https"
    BLOCKED_ADDRESS = "blocked_address", "an address that is not public, on the way or at its end"
    BLOCKED_DOMAIN = "blocked_domain", "on the recipe's list of domains not to ask"
    ROBOTS_DISALLOWED = "robots_disallowed", "robots.txt asks crawlers to stay away"
    ROBOTS_UNREACHABLE = "robots_unreachable", "robots.txt could not be had, so nothing was asked for"
    HOST_UNREACHABLE = "host_unreachable", "given up with its host, of which nothing was heard"
    # The host was not reached.
    DNS_NOT_FOUND = "dns_not_found", "its host does not exist any more"
    DNS_FAILED = "dns_failed", "its host's name could not be resolved"
    CONNECT_FAILED = "connect_failed", "the connection was refused"
    CONNECT_TIMEOUT = "connect_timeout", "the connection took too long"
    TLS_FAILED = "tls_failed", "the certificate or the encryption is broken"
    # The transfer failed.
    TIMEOUT = "timeout", "took longer than the deadline"
    STALLED = "stalled", "sent next to nothing for too long"
    CONNECTION_LOST = "connection_lost", "broken off"
    BAD_RESPONSE = "bad_response", "an answer that is no HTTP"
    BAD_ENCODING = "bad_encoding", "an answer whose compression is broken"
    TRANSFER_FAILED = "transfer_failed", "failed otherwise while it was sent"
    # The server responded, but not with an image that may be used.
    TOO_LARGE = "too_large", "more bytes than allowed"
    EMPTY_BODY = "empty_body", "an answer without content"
    OPTED_OUT = "opted_out", "opted out of training by X-Robots-Tag or tdm-reservation"
    TOO_MANY_REDIRECTS = "too_many_redirects", "redirected on and on"
    BAD_REDIRECT = "bad_redirect", "redirected to nowhere"
    HTTP_NOT_FOUND = "http_not_found", "HTTP 404"
    HTTP_GONE = "http_gone", "HTTP 410"
    HTTP_FORBIDDEN = "http_forbidden", "HTTP 401, 402, 403 or 451"
    HTTP_RATE_LIMITED = "http_rate_limited", "HTTP 429: too many requests"
    HTTP_CLIENT_ERROR = "http_client_error", "another HTTP 4xx"
    HTTP_SERVER_ERROR = "http_server_error", "HTTP 5xx"


RETRY_NOW = frozenset(
    {
        FetchStatus.DNS_FAILED,
        FetchStatus.CONNECT_FAILED,
        FetchStatus.CONNECTION_LOST,
        FetchStatus.HTTP_RATE_LIMITED,
        FetchStatus.HTTP_SERVER_ERROR,
    }
)
"""Statuses that are retried in the same run, after a back-off: they fail fast and are often transient."""

OVERLOADED = frozenset(
    {FetchStatus.HTTP_RATE_LIMITED, FetchStatus.TIMEOUT, FetchStatus.STALLED, FetchStatus.CONNECT_TIMEOUT}
)
"""Statuses after which a host is given fewer transfers at once; HTTP 503 is another."""

RETRY_LATER = RETRY_NOW | {
    FetchStatus.CONNECT_TIMEOUT,
    FetchStatus.HOST_UNREACHABLE,
    FetchStatus.ROBOTS_UNREACHABLE,
    FetchStatus.STALLED,
    FetchStatus.TIMEOUT,
    FetchStatus.TRANSFER_FAILED,
}
"""Statuses of transient failures, which a later run may retry. All others are final."""

NOT_REACHED = frozenset(
    {
        FetchStatus.DNS_NOT_FOUND,
        FetchStatus.DNS_FAILED,
        FetchStatus.CONNECT_FAILED,
        FetchStatus.CONNECT_TIMEOUT,
        FetchStatus.TLS_FAILED,
        FetchStatus.BLOCKED_ADDRESS,
    }
)
"""Statuses that every URL of the origin would share: its server was not reached."""

HOST_FAILURES = frozenset(
    {
        FetchStatus.CONNECT_FAILED,
        FetchStatus.CONNECT_TIMEOUT,
        FetchStatus.TLS_FAILED,
        FetchStatus.TIMEOUT,
        FetchStatus.STALLED,
        FetchStatus.CONNECTION_LOST,
    }
)
"""Statuses that count towards giving up on a host that has no other responses."""

NO_RESPONSE = frozenset(
    {
        FetchStatus.DNS_NOT_FOUND,
        FetchStatus.DNS_FAILED,
        FetchStatus.CONNECT_FAILED,
        FetchStatus.CONNECT_TIMEOUT,
        FetchStatus.HOST_UNREACHABLE,
        FetchStatus.STALLED,
        FetchStatus.TIMEOUT,
    }
)
"""Statuses that a local outage (resolver or uplink) explains as well as a dead host."""

RESPONDED = frozenset(
    {
        FetchStatus.SUCCESS,
        FetchStatus.ROBOTS_DISALLOWED,
        FetchStatus.BAD_RESPONSE,
        FetchStatus.BAD_ENCODING,
        FetchStatus.TOO_LARGE,
        FetchStatus.EMPTY_BODY,
        FetchStatus.OPTED_OUT,
        FetchStatus.TOO_MANY_REDIRECTS,
        FetchStatus.BAD_REDIRECT,
        FetchStatus.HTTP_NOT_FOUND,
        FetchStatus.HTTP_GONE,
        FetchStatus.HTTP_FORBIDDEN,
        FetchStatus.HTTP_RATE_LIMITED,
        FetchStatus.HTTP_CLIENT_ERROR,
        FetchStatus.HTTP_SERVER_ERROR,
    }
)
"""Statuses that show that a server responded. The remaining ones give no evidence about the local connection."""


@dataclass(slots=True)
class Download:
    """The result of downloading one URL.

    Attributes:
        url: as given.
        status: how it ended.
        http_status: of the last response, or None.
        body: on success only.
        final_url: the URL that was requested last, after redirects.
        content_type: of the last response, or None.
        seconds: time of its transfers over all attempts and redirects, without waiting in queues.
        attempts: number of attempts, 0 if nothing was sent.
        detail: further explanation of the status.
    """

    url: str
    status: FetchStatus
    http_status: int | None = None
    body: bytes | None = None
    final_url: str | None = None
    content_type: str | None = None
    seconds: float = 0.0
    attempts: int = 0
    detail: str = ""


def status_of_http(http_status: int) -> FetchStatus:
    """Return the status for an HTTP status that is not a redirect; SUCCESS for those whose body is the resource."""
    if http_status in _HTTP_STATUSES:
        return _HTTP_STATUSES[http_status]
    if 400 <= http_status < 500:
        return FetchStatus.HTTP_CLIENT_ERROR
    if 500 <= http_status < 600:
        return FetchStatus.HTTP_SERVER_ERROR
    if 300 <= http_status < 400:
        return FetchStatus.BAD_REDIRECT
    return FetchStatus.BAD_RESPONSE


def status_of_curl(code: int) -> FetchStatus:
    """Return the status for a libcurl error code."""
    return _CURL_STATUSES.get(code, FetchStatus.TRANSFER_FAILED)


_HTTP_STATUSES = {
    200: FetchStatus.SUCCESS,
    203: FetchStatus.SUCCESS,
    204: FetchStatus.EMPTY_BODY,
    205: FetchStatus.EMPTY_BODY,
    401: FetchStatus.HTTP_FORBIDDEN,
    402: FetchStatus.HTTP_FORBIDDEN,
    403: FetchStatus.HTTP_FORBIDDEN,
    404: FetchStatus.HTTP_NOT_FOUND,
    410: FetchStatus.HTTP_GONE,
    429: FetchStatus.HTTP_RATE_LIMITED,
    451: FetchStatus.HTTP_FORBIDDEN,
}

_CURL_STATUSES: dict[int, FetchStatus] = {
    pycurl.E_UNSUPPORTED_PROTOCOL: FetchStatus.BAD_RESPONSE,  # an HTTP/0.9 response: the scheme was checked before
    pycurl.E_URL_MALFORMAT: FetchStatus.BAD_URL,
    pycurl.E_COULDNT_RESOLVE_HOST: FetchStatus.DNS_FAILED,
    pycurl.E_COULDNT_CONNECT: FetchStatus.CONNECT_FAILED,
    8: FetchStatus.BAD_RESPONSE,  # CURLE_WEIRD_SERVER_REPLY
    16: FetchStatus.CONNECTION_LOST,  # CURLE_HTTP2
    pycurl.E_PARTIAL_FILE: FetchStatus.CONNECTION_LOST,
    # The only timeout handled by libcurl is the one for connecting.
    pycurl.E_OPERATION_TIMEDOUT: FetchStatus.CONNECT_TIMEOUT,
    pycurl.E_SSL_CONNECT_ERROR: FetchStatus.TLS_FAILED,
    pycurl.E_SSL_CIPHER: FetchStatus.TLS_FAILED,
    pycurl.E_PEER_FAILED_VERIFICATION: FetchStatus.TLS_FAILED,
    pycurl.E_GOT_NOTHING: FetchStatus.CONNECTION_LOST,
    pycurl.E_SEND_ERROR: FetchStatus.CONNECTION_LOST,
    pycurl.E_RECV_ERROR: FetchStatus.CONNECTION_LOST,
    pycurl.E_BAD_CONTENT_ENCODING: FetchStatus.BAD_ENCODING,
    pycurl.E_FILESIZE_EXCEEDED: FetchStatus.TOO_LARGE,
    92: FetchStatus.CONNECTION_LOST,  # CURLE_HTTP2_STREAM
    100: FetchStatus.BAD_RESPONSE,  # CURLE_TOO_LARGE: headers beyond libcurl's limits
}
