"""Define the settings of the downloader."""

import re

from pydantic import Field, field_validator, model_validator

from openwit.pipeline.download.address import parse_network
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.settings import Settings

_TOKEN = re.compile(r"[A-Za-z_-]+\Z")


A_DAY = 86_400
"""Seconds of the longest wait or deadline."""


class DownloadSettings(Settings):
    """Settings of downloads, with limits and politeness."""

    user_agent: str = Field(
        "OpenWIT/0.1 (image-text dataset builder; set a contact in fetch.download.user_agent)",
        description="User-Agent header: a truthful name and a contact for webmasters.",
    )
    agent_token: str = Field(
        "openwit",
        description="Product token that robots.txt groups and X-Robots-Tag rules are matched against: "
        "letters, - and _ only (RFC 9309, section 2.2.1).",
    )
    concurrency: int = Field(256, ge=1, le=4096, description="Maximum concurrent transfers.")
    per_host: int = Field(
        32,
        ge=1,
        le=4096,
        description="Maximum concurrent transfers per host. They begin with 8, grow while the host answers as fast as "
        "before, and shrink when it is overloaded (429, 503, timeouts).",
    )
    host_interval_s: float = Field(
        0.0, ge=0, le=A_DAY, description="Minimum time between the starts of two requests to one host, in seconds."
    )
    max_crawl_delay_s: float = Field(
        2.0,
        ge=0,
        le=A_DAY,
        description="The Crawl-delay of robots.txt is obeyed up to this many seconds; 0 ignores it.",
    )
    lookahead: int = Field(
        20_000,
        ge=1,
        le=100_000_000,
        description="Number of URLs read ahead, so that other hosts are served while a slow one is waiting. "
        "Limits the memory for waiting URLs.",
    )
    timeout_s: float = Field(
        30.0,
        gt=0,
        le=A_DAY,
        description="Deadline of one attempt at a URL in seconds, with redirects, without queueing.",
    )
    connect_timeout_s: float = Field(8.0, gt=0, le=A_DAY, description="Deadline for connecting in seconds, with TLS.")
    dns_timeout_s: float = Field(10.0, gt=0, le=A_DAY, description="Deadline of one name lookup in seconds.")
    resolver_threads: int = Field(64, ge=1, le=512, description="Maximum concurrent name lookups.")
    stall_s: float = Field(
        10.0,
        gt=0,
        le=A_DAY,
        description="A transfer slower than stall_bytes_per_s over this many seconds is aborted; over a quarter of "
        "them after four such transfers of its host in a row.",
    )
    stall_bytes_per_s: int = Field(1024, ge=0, le=1 << 40, description="See stall_s; 0 disables the limit.")
    max_bytes: int = Field(
        10 * 1024 * 1024,
        ge=1,
        le=1 << 34,
        description="A larger body, as sent or decompressed, is aborted and dropped.",
    )
    max_redirects: int = Field(5, ge=0, le=100, description="Maximum redirects followed per URL.")
    retries: int = Field(1, ge=0, le=10, description="Retries in the same run after errors that are often transient.")
    backoff_s: float = Field(
        1.0,
        ge=0,
        le=A_DAY,
        description="Wait before the first retry in seconds; doubles with each retry. See max_backoff_s.",
    )
    max_backoff_s: float = Field(
        30.0,
        ge=0,
        le=A_DAY,
        description="Maximum wait before a retry in seconds, where the server names none by Retry-After.",
    )
    max_refusal_s: float = Field(
        120.0,
        ge=0,
        le=A_DAY,
        description="How long a host may make us wait by refusing requests (429, or 503 with Retry-After) before its "
        "other URLs end without an attempt. Pauses are added up; each other answer takes off two seconds.",
    )
    host_failures: int = Field(
        16,
        ge=1,
        le=1_000_000_000,
        description="After this many consecutive failures of a host, its other URLs end as host_unreachable without "
        "an attempt.",
    )
    robots: bool = Field(True, description="Fetch and obey robots.txt (RFC 9309).")
    opt_outs: bool = Field(
        True, description="Obey X-Robots-Tag (noai, noimageai, noindex, noimageindex, none) and tdm-reservation."
    )
    reuse_connections: bool = Field(True, description="Reuse connections for further URLs of their host.")
    allow_networks: tuple[str, ...] = Field(
        (), description="Networks that may be contacted although they are not global, such as 127.0.0.0/8 for tests."
    )
    ca_file: str | None = Field(None, description="Certificates to trust (PEM) instead of the system's.")

    @field_validator("user_agent")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if not value.strip() or not value.isprintable() or not value.isascii():
            raise ValueError("must be one line of printable ASCII")
        return value

    @field_validator("agent_token")
    @classmethod
    def _product_token(cls, value: str) -> str:
        if not _TOKEN.match(value):
            raise ValueError("must consist of letters, - and _ only")
        return value

    @field_validator("allow_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                parse_network(network)
            except RecipeError as error:
                raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _deadlines(self) -> "DownloadSettings":
        if self.connect_timeout_s > self.timeout_s:
            raise ValueError(
                f"connect_timeout_s ({self.connect_timeout_s:g}) must not exceed timeout_s ({self.timeout_s:g})"
            )
        return self
