"""Assign images to splits."""

from collections.abc import Callable

import xxhash

from openwit.pipeline.common.urls import host_of, normalise_host, normalise_url

_SEED = 1  # separate seed: the same hash also shuffles the dataset


def split_chooser(held_out: dict[str, list[str]], shares: dict[str, float]) -> Callable[[str], str]:
    """Return a function from image URL to split.

    Args:
        held_out: split to hosts; images of such a host, or of a subdomain of it, belong to the split.
        shares: split to its share of the other images, chosen by a hash of the URL.
    """
    splits = {normalise_host(host) or host.lower(): split for split, hosts in held_out.items() for host in hosts}

    def split_of(url: str) -> str:
        host = host_of(url) if splits else ""
        while host:
            if host in splits:
                return splits[host]
            host = host.partition(".")[2]
        if shares:
            place = xxhash.xxh3_64_intdigest(normalise_url(url).encode(), seed=_SEED) / 2**64
            for split, share in sorted(shares.items()):
                if place < share:
                    return split
                place -= share
        return "train"

    return split_of
