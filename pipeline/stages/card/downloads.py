"""Group download statuses in classes that a reader of the card understands."""

from collections.abc import Mapping
from typing import Any

from openwit.pipeline.common.reasons import ReasonEnum
from openwit.pipeline.download.status import FetchStatus
from openwit.pipeline.images.process import ImageReason

OK, GONE, RULES, REFUSED, UNREACHABLE, NO_IMAGE, NOT_ASKED, OTHER = (
    "kept", "gone", "not allowed by its site", "refused by the server", "unreachable, or failed in transfer",
    "no usable image", "not requested", "other",
)  # fmt: skip

_STATUSES: dict[str, tuple[ReasonEnum, ...]] = {
    OK: (FetchStatus.SUCCESS,),
    GONE: (
        FetchStatus.HTTP_NOT_FOUND,
        FetchStatus.HTTP_GONE,
        FetchStatus.DNS_NOT_FOUND,
    ),
    RULES: (
        FetchStatus.ROBOTS_DISALLOWED,
        FetchStatus.ROBOTS_UNREACHABLE,
        FetchStatus.OPTED_OUT,
    ),
    REFUSED: (
        FetchStatus.HTTP_FORBIDDEN,
        FetchStatus.HTTP_RATE_LIMITED,
        FetchStatus.HTTP_CLIENT_ERROR,
    ),
    UNREACHABLE: (
        FetchStatus.HOST_UNREACHABLE,
        FetchStatus.DNS_FAILED,
        FetchStatus.CONNECT_FAILED,
        FetchStatus.CONNECT_TIMEOUT,
        FetchStatus.TLS_FAILED,
        FetchStatus.TIMEOUT,
        FetchStatus.STALLED,
        FetchStatus.CONNECTION_LOST,
        FetchStatus.BAD_RESPONSE,
        FetchStatus.BAD_ENCODING,
        FetchStatus.TRANSFER_FAILED,
        FetchStatus.TOO_MANY_REDIRECTS,
        FetchStatus.BAD_REDIRECT,
        FetchStatus.HTTP_SERVER_ERROR,
    ),
    NO_IMAGE: (
        FetchStatus.TOO_LARGE,
        FetchStatus.EMPTY_BODY,
        ImageReason.NOT_AN_IMAGE,
        ImageReason.TRUNCATED,
        ImageReason.DECODE_ERROR,
        ImageReason.UNSUPPORTED_MODE,
        ImageReason.TOO_MANY_PIXELS,
        ImageReason.TOO_MANY_SCANS,
        ImageReason.TOO_MANY_PARTS,
        ImageReason.TOO_SMALL,
        ImageReason.BAD_ASPECT_RATIO,
    ),
    NOT_ASKED: (
        FetchStatus.BAD_URL,
        FetchStatus.UNSUPPORTED_SCHEME,
        FetchStatus.BLOCKED_ADDRESS,
        FetchStatus.BLOCKED_DOMAIN,
    ),
}
CLASS_OF = {status.value: name for name, statuses in _STATUSES.items() for status in statuses}


def download_classes(kept: int, reasons: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the statuses of image URLs by class: class, number, statuses with numbers, most frequent first.

    Args:
        kept: number of images kept.
        reasons: number of the others per drop reason.
    """
    by_class: dict[str, dict[str, int]] = {}
    for status, n in {"success": kept, **reasons}.items():
        by_class.setdefault(CLASS_OF.get(status, OTHER), {})[status] = n
    return [
        {
            "class": name,
            "n": sum(by_class[name].values()),
            "statuses": [
                {"status": status, "n": n} for status, n in sorted(by_class[name].items(), key=lambda s: (-s[1], s[0]))
            ],
        }
        for name in (*_STATUSES, OTHER)
        if name in by_class
    ]
