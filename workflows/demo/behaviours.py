"""Define what the server does besides serving files: the contents of `behaviours.json`."""

from typing import Literal

from pydantic import Field

from openwit.schemas.common.settings import Settings

Kind = Literal["status", "redirect", "type", "cut", "markup", "drip"]


class Behaviour(Settings):
    """How the server responds to one path."""

    kind: Kind = Field(
        description="status: an error; redirect: sends elsewhere; type: the file under another Content-Type; cut: "
        "half of the file, then the connection closes; markup: HTML under an image's Content-Type; drip: no end"
    )
    status: int = Field(default=200, ge=200, le=599)
    location: str = Field(default="", description="target of a redirect; may be relative")
    content_type: str = Field(default="", description="of `type` and `markup`")
    seconds: float = Field(default=60.0, gt=0, le=60, description="after which a drip ends by itself")


class HostRules(Settings):
    """How one host responds."""

    headers: dict[str, str] = Field(default_factory=dict, description="sent with every answer")
    html_charset: str | None = Field(default="utf-8", description="named in the Content-Type of pages; null: unnamed")
    gzip: bool = Field(default=False, description="compress pages for clients that accept it")
    paths: dict[str, Behaviour] = Field(default_factory=dict, description="by decoded path")


class Behaviours(Settings):
    """How all hosts respond."""

    hosts: dict[str, HostRules]
