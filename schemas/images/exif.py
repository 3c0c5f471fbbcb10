"""Read the one entry of EXIF data that changes what is seen: the orientation."""

import struct

ORIENTATION = 0x0112
_SHORT, _LONG = 3, 4
# Cameras write fewer than a hundred entries, in ascending order; this one is among the first.
_MAX_ENTRIES = 512


def orientation_of(exif: bytes) -> int:
    """Return the orientation, 1 to 8; 1 if there is none, or where the data are damaged.

    Reads the first directory only and no value outside of it, so the time does not depend on what the data claim.
    """
    at = 6 if exif.startswith(b"Exif\0\0") else 0
    order = {b"II": "<", b"MM": ">"}.get(exif[at : at + 2])
    if order is None or len(exif) < at + 8:
        return 1
    directory = at + struct.unpack_from(order + "I", exif, at + 4)[0]
    if directory + 2 > len(exif):
        return 1
    count = min(struct.unpack_from(order + "H", exif, directory)[0], _MAX_ENTRIES)
    for entry in range(directory + 2, min(directory + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", exif, entry)
        if tag == ORIENTATION and kind in (_SHORT, _LONG):
            value = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), exif, entry + 8)[0]
            return int(value) if 1 <= value <= 8 else 1
    return 1
