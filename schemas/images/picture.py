"""Define what remains of an image file when its metadata are taken out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file without metadata, and the two of them that change what is seen.

    Attributes:
        body: a file of the same format; the same pixels, and nothing that keeps a decoder busy besides them.
        orientation: of EXIF, 1 to 8.
        icc_profile: the colour profile; None if there is none or it is damaged.
        complete: False if the end of the file is missing, and maybe a part of the picture.
        one_scan: whether the header says that decoders read one scan only, whatever follows it.
    """

    body: bytes
    orientation: int = 1
    icc_profile: bytes | None = None
    complete: bool = True
    one_scan: bool = False
