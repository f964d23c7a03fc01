"""Text that is not well-formed UTF-8: halves of surrogate pairs, and characters cut in two."""

import codecs


def well_formed(text: str) -> str:
    """Return the text with "?" for each half of a surrogate pair, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def drop_cut_start(data: bytes) -> bytes:
    """Return the bytes without the rest of a character that began before them."""
    first = next((i for i, byte in enumerate(data[:4]) if byte & 0xC0 != 0x80), 0)
    return data[first:]


def drop_cut_end(data: bytes) -> bytes:
    """Return the bytes without a character that ends after them."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    return data[: len(data) - len(decoder.getstate()[0])]
