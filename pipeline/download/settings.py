"""Settings of the downloader."""

import re

from pydantic import Field, field_validator, model_validator

from openwit.pipeline.download.address import parse_network
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.settings import Settings

_TOKEN = re.compile(r"[A-Za-z_-]+\Z")


class DownloadSettings(Settings):
    """How images are downloaded, and how politely."""

    user_agent: str = Field(
        "OpenWIT/0.1 (image-text dataset builder; set a contact in fetch.download.user_agent)",
        description="User-Agent header: an honest name and a contact that a webmaster can use.",
    )
    agent_token: str = Field(
        "openwit",
        description="Product token that robots.txt groups and X-Robots-Tag rules are matched against: "
        "letters, - and _ only (RFC 9309, section 2.2.1).",
    )
    concurrency: int = Field(256, ge=1, le=4096, description="Transfers at once.")
    per_host: int = Field(8, ge=1, description="Transfers at once from one host.")
    host_interval_s: float = Field(
        0.0, ge=0, description="Least time between the starts of two requests to one host, in seconds."
    )
    max_crawl_delay_s: float = Field(
        2.0, ge=0, description="A robots.txt's Crawl-delay is kept up to this many seconds; 0 ignores it."
    )
    lookahead: int = Field(
        20_000,
        ge=1,
        description="URLs read ahead, so that other hosts have work while a slow one has its turns. "
        "Bounds the memory that waiting URLs take.",
    )
    timeout_s: float = Field(
        30.0, gt=0, description="Deadline of one attempt at a URL, redirects included, waiting for a turn not."
    )
    connect_timeout_s: float = Field(8.0, gt=0, description="Deadline for connecting, TLS included.")
    dns_timeout_s: float = Field(10.0, gt=0, description="Deadline of one name lookup.")
    resolver_threads: int = Field(64, ge=1, le=512, description="Name lookups at once.")
    stall_s: float = Field(
        10.0, gt=0, description="A transfer slower than stall_bytes_per_s over this many seconds is broken off."
    )
    stall_bytes_per_s: int = Field(1024, ge=0, description="See stall_s; 0 turns the limit off.")
    max_bytes: int = Field(
        10 * 1024 * 1024, ge=1, description="A larger body, as sent or unpacked, is broken off and dropped."
    )
    max_redirects: int = Field(5, ge=0, description="Redirects followed for one URL.")
    retries: int = Field(1, ge=0, le=10, description="Further attempts for errors that often pass.")
    backoff_s: float = Field(
        1.0, ge=0, description="Wait before the second attempt; doubles with each further one. See max_backoff_s."
    )
    max_backoff_s: float = Field(
        30.0, ge=0, description="Longest wait before another attempt, a server's Retry-After included."
    )
    host_failures: int = Field(
        16,
        ge=1,
        description="So many failures of a host in a row, and nothing else from it, and its other URLs end as "
        "host_unreachable without being tried.",
    )
    robots: bool = Field(True, description="Fetch and obey robots.txt (RFC 9309).")
    opt_outs: bool = Field(
        True, description="Obey X-Robots-Tag (noai, noimageai, noindex, noimageindex, none) and tdm-reservation."
    )
    reuse_connections: bool = Field(True, description="Keep connections open for further URLs of their host.")
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
