"""Text that came from files, on a terminal."""

import re

# Control characters, among them ESC; marks, overrides and isolates of the direction of writing;
# separators of lines; halves of a character, which stand for bytes of a name that are no UTF-8.
_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text, lines=False):
    r"""Text in which nothing steers a terminal: such characters are spelled out.

    Names of files, labels and what an error says of them may hold anything.

    Args:
        text: what to print, a str or anything else.
        lines: bool, whether line feeds stay what they are.

    Returns:
        str.

    Example:
        >>> print(printable("cat\x1b[2J\n.jpg"))
        cat\x1b[2J\n.jpg
    """
    if lines:
        return "\n".join(map(printable, str(text).split("\n")))
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))
