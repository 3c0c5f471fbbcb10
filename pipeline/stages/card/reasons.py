"""What each reason for which something leaves a build means, and how a download may end, in a sentence."""

from collections.abc import Mapping
from typing import Any

REASONS = {
    # queries
    "redirect": "an article that only points to another",
    "disambiguation": "a page that lists the meanings of a name",
    "other_namespace": "a page that is no article",
    "not_wikitext": "a page in another format than wikitext",
    "empty_article": "an article without text",
    "damaged_page": "a page of the dump that could not be read",
    "other_project": "views of another project than the Wikipedia asked for",
    "bad_line": "a line of the page views that could not be read",
    "too_few_views": "a title with fewer views than asked for",
    "no_title": "views without a title",
    "bad_title": "views of something that is no title",
    "below_min_count": "a term seen less often than asked for",
    "below_min_views": "a title with fewer views than asked for",
    "low_pmi": "two words that stand together hardly more often than chance has it",
    "no_words": "holds no word once normalised",
    "too_many_words": "longer than queries may be",
    "duplicate": "a query that another source already gave",
    "over_limit": "beyond the number of queries asked for",
    # inputs, pages and their images
    "unreadable": "a file that could not be read",
    "not_response": "a record that is no server's answer (request, metadata …)",
    "revisit": "a page unchanged since an earlier crawl",
    "not_http": "an answer of another protocol than HTTP",
    "bad_http": "an answer whose HTTP is broken",
    "not_200": "an answer with another status than 200",
    "not_html": "an answer that is no HTML",
    "empty_page": "a page without content",
    "page_too_large": "a page larger than is read",
    "too_nested": "a page nested deeper than is read",
    "damaged_record": "a record that could not be read",
    "bad_json": "a record whose JSON could not be read",
    "no_url": "an image without address",
    "data_uri": "an image that stands in the page itself",
    "tracking_pixel": "an image that counts visitors",
    "icon": "an icon or a button, by its name or size",
    "placeholder": "a stand-in for an image loaded later",
    "svg": "a vector drawing",
    "repeated_on_page": "an address seen before on its page; its texts went there",
    "broken_line": "a line of a table that could not be read",
    "damaged_rows": "rows of a table that could not be read",
    # texts
    "no_text": "no text describes it",
    "text_source_not_wanted": "a text from a place the recipe leaves out",
    "bad_url": "the address is no URL",
    "bad_split": "the table names no valid split",
    "too_short": "fewer characters or words than asked for",
    "too_long": "more characters than allowed",
    "no_letters": "digits, punctuation and symbols only",
    "file_name": "the name of a file",
    "url_text": "a web or e-mail address instead of a description",
    "boilerplate": "a frequent text that says nothing of the image",
    "credit_line": "says who made the picture and nothing else",
    "repeated_characters": "a long run of one letter or word",
    "adult_word": "holds a word of the recipe's list",
    "language": "in a language that was not asked for, or in none that could be told",
    # selection
    "duplicate_pair": "the same image address with the same text, seen before",
    "other_text_of_image": "another text of its image was kept",
    "near_equal_text": "holds the same words as a longer text of its image",
    "no_match": "no query occurs in the text",
    "not_drawn": "queries match, but each had drawn as many pairs as it may",
    "not_drawn_again": "not among the draws once lost images and copies were gone",
    "no_text_left": "none of its texts was drawn again",
    # deduplication
    "duplicate_bytes": "the same file as the image that stays, byte for byte",
    "duplicate_pixels": "another file that shows the same pixels to the last bit",
    "near_duplicate": "looks the same: hashes near each other, and alike in a finer comparison and in colours",
    "copy_of_held_out": "a copy of an image in a held-out split, which must not be trained on",
    "frequent_image": "stands under so many different texts that it shows nothing of them: a logo, a placeholder",
    "plain_image": "of one tone, stripes or a gradient: nothing to see, and no hash tells two such apart",
    "removed": "on the list of what may not enter the dataset",
    "evaluation_image": "a copy of an image that models are evaluated on",
    "same_text_of_copy": "a copy's text that the image which stays has too",
    # taken out afterwards
    "url": "taken out of the finished dataset, its address was named",
    "sha256": "taken out of the finished dataset, its file was named",
    "phash": "taken out of the finished dataset, it looks like an image that was named",
    "domain": "taken out of the finished dataset, its site was named",
}  # fmt: skip

OK, GONE, RULES, REFUSED, UNREACHABLE, NO_IMAGE, NOT_ASKED, OTHER = (
    "kept", "gone", "not allowed by its site", "refused by the server", "not reached, or failed on the way",
    "no image to take", "not asked for", "other",
)  # fmt: skip

_STATUSES = {
    OK: {"success": "arrived, decoded and brought to size"},
    GONE: {
        "http_not_found": "HTTP 404",
        "http_gone": "HTTP 410",
        "dns_not_found": "its host does not exist any more",
    },
    RULES: {
        "robots_disallowed": "robots.txt asks crawlers to stay away",
        "robots_unreachable": "robots.txt could not be had, so nothing was asked for",
        "opted_out": "opted out of training by X-Robots-Tag or tdm-reservation",
    },
    REFUSED: {
        "http_forbidden": "HTTP 401, 402, 403 or 451",
        "http_rate_limited": "HTTP 429: too many requests",
        "http_client_error": "another HTTP 4xx",
    },
    UNREACHABLE: {
        "host_unreachable": "given up with its host, of which nothing was heard",
        "dns_failed": "its host's name could not be resolved",
        "connect_failed": "the connection was refused",
        "connect_timeout": "the connection took too long",
        "tls_failed": "the certificate or the encryption is broken",
        "timeout": "took longer than the deadline",
        "stalled": "sent next to nothing for too long",
        "connection_lost": "broken off",
        "bad_response": "an answer that is no HTTP",
        "bad_encoding": "an answer whose compression is broken",
        "transfer_failed": "failed otherwise while it was sent",
        "too_many_redirects": "redirected on and on",
        "bad_redirect": "redirected to nowhere",
        "http_server_error": "HTTP 5xx",
    },
    NO_IMAGE: {
        "too_large": "more bytes than allowed",
        "empty_body": "an answer without content",
        "not_an_image": "something else than an image, by its first bytes",
        "truncated": "an image of which a part is missing",
        "decode_error": "an image that could not be decoded",
        "unsupported_mode": "an image whose colours are not understood",
        "too_many_pixels": "more pixels than allowed",
        "too_many_scans": "a JPEG made to keep a decoder busy",
        "too_small": "smaller than asked for",
        "bad_aspect_ratio": "longer or wider than asked for",
    },
    NOT_ASKED: {
        "bad_url": "the address is no URL",
        "unsupported_scheme": "neither http nor https",
        "blocked_address": "an address that is not public, on the way or at its end",
        "blocked_domain": "on the recipe's list of domains not to ask",
    },
}
CLASS_OF = {status: name for name, statuses in _STATUSES.items() for status in statuses}
_MEANINGS = REASONS | {status: meaning for statuses in _STATUSES.values() for status, meaning in statuses.items()}


def name_of(reason: str) -> str:
    """A reason in words."""
    return reason.replace("_", " ")


def meaning_of(reason: str) -> str:
    """What a reason means, as a part of a sentence; empty for one that is not known here."""
    return _MEANINGS.get(reason, "")


def download_classes(kept: int, reasons: Mapping[str, int]) -> list[dict[str, Any]]:
    """How the image addresses ended, by class: class, number, and its statuses with numbers, most frequent first.

    Args:
        kept: images that were kept.
        reasons: why the others were not, each with its number.
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
