"""`printable`: makes text from files safe for a terminal."""

import re

# Control characters such as ESC; marks, overrides and isolates of the text direction; line
# separators; surrogates, which stand for bytes of a file name that are not UTF-8.
_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text, lines=False):
    r"""Escapes the characters of a text that would control a terminal.

    Names of files, labels, and error messages about them, may contain any character.

    Args:
        text: str, or any object to convert to one.
        lines: bool, whether to keep line feeds.

    Returns:
        str.

    Example:
        >>> print(printable("cat\x1b[2J\n.jpg"))
        cat\x1b[2J\n.jpg
    """
    if lines:
        return "\n".join(map(printable, str(text).split("\n")))
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))
