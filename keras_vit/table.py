"""`Table`: rows that print as an aligned table."""

from keras_vit.terminal import printable


class Table(list):
    """A list of rows, each a tuple, with a header and an aligned text form.

    Args:
        header: tuple of str.
        rows: iterable of tuples; integers print with thousands separators.
    """

    def __init__(self, header, rows):
        super().__init__(rows)
        self.header = header

    def __str__(self):
        cells = [self.header] + [tuple(map(_text, row)) for row in self]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        # Numbers are aligned right, text left.
        right = [isinstance(value, (int, float)) for value in (self[-1] if self else self.header)]
        return "\n".join(
            "  ".join(
                text.rjust(width) if number else text.ljust(width)
                for text, width, number in zip(line, widths, right, strict=True)
            ).rstrip()
            for line in cells
        )

    __repr__ = __str__


def _text(value):
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return printable(value)
