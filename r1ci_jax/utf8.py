"""Text that is not well-formed UTF-8: halves of surrogate pairs, and characters cut in two."""

import codecs
import itertools


def well_formed(text: str) -> str:
    """Return the text with "?" for each half of a surrogate pair, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def drop_cut_start(data: bytes) -> bytes:
    """Return the bytes without the rest of a character that began before them: up to three."""
    rest = itertools.takewhile(lambda byte: byte & 0xC0 == 0x80, data[:4])
    count = sum(1 for _ in rest)
    return data[count:] if count < 4 else data


def drop_cut_end(data: bytes) -> bytes:
    """Return the bytes without a character that ends after them."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    return data[: len(data) - len(decoder.getstate()[0])]
