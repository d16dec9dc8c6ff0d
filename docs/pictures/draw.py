"""Draws the pictures of the models' pages: `python docs/pictures/draw.py`, without any package.

Each shows a family's idea at 224 pixels, in the numbers of one of its variants.
"""

from pathlib import Path

INK, SOFT, PATCH, CLASS, SECOND, BLOCK = (
    "#1f2933",
    "#9aa5b1",
    "#cfe3f7",
    "#f6c177",
    "#b5d99c",
    "#e8edf2",
)


class Drawing:
    """Shapes, collected and written as SVG, in pixels from the top left."""

    def __init__(self, width, height):
        self.size, self.shapes = (width, height), []
        self.box(0, 0, width, height, "#ffffff", line="none", corner=6)

    def box(self, x, y, width, height, fill, line=INK, corner=3):
        self.shapes.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{corner}" fill="{fill}" '
            f'stroke="{line}"/>'
        )

    def text(self, x, y, text, size=13, anchor="middle", colour=INK):
        for i, line in enumerate(text.split("\n")):
            self.shapes.append(
                f'<text x="{x}" y="{y + i * (size + 3)}" font-size="{size}" fill="{colour}" '
                f'text-anchor="{anchor}">{line}</text>'
            )

    def line(self, x, y, to_x, to_y, colour=INK, arrow=False):
        end = ' marker-end="url(#arrow)"' if arrow else ""
        self.shapes.append(
            f'<line x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}" stroke="{colour}"{end}/>'
        )

    def grid(self, x, y, side, cells, fill=PATCH):
        """A square of cells x cells."""
        self.box(x, y, side, side, fill, corner=0)
        step = side / cells
        for i in range(1, cells):
            self.line(x + i * step, y, x + i * step, y + side)
            self.line(x, y + i * step, x + side, y + i * step)

    def save(self, name):
        width, height = self.size
        arrow = (
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="{INK}"/></marker></defs>'
        )
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" font-family="Helvetica, Arial, sans-serif">',
            arrow,
            *self.shapes,
            "</svg>",
        ]
        Path(__file__, f"../{name}.svg").resolve().write_text("\n".join(lines) + "\n", "utf-8")


def tokens(drawing, x, y, prefix, count=6):
    """A row of tokens, those of `prefix` first; returns where it ends."""
    for fill in [*prefix, *[PATCH] * count]:
        drawing.box(x, y, 16, 40, fill)
        x += 20
    drawing.text(x + 8, y + 26, "...")
    return x + 20


def plain(name, prefix, labels, blocks, heads, first="patches\n16 x 16 pixels", cells=7):
    """Image, tokens, blocks, heads: what families without stages look like."""
    d = Drawing(760, 190)
    d.grid(20, 50, 98, cells)
    d.text(69, 166, first, 12)
    start = 156 + 24 * (len(labels) - 1)
    d.line(124, 99, start - 8, 99, arrow=True)
    end = tokens(d, start, 79, prefix)
    for i, label in enumerate(labels):  # above the tokens that they name
        middle = start + 8 + 20 * i
        d.text(middle, 50, label, 12, "start" if i == len(labels) - 1 else "end")
        d.line(middle, 54, middle, 76, SOFT)
    d.text((start + end) / 2, 140, "tokens", 12)
    x = end + 8
    d.line(end, 99, x + 16, 99, arrow=True)
    x += 22
    width = 700 - 96 - x
    d.box(x, 49, width, 100, BLOCK)
    d.text(x + width / 2, 94, blocks, 13)
    for i, (fill, text) in enumerate(heads):
        y = 99 + (i - (len(heads) - 1) / 2) * 56
        d.line(x + width, y, x + width + 18, y, arrow=True)
        d.box(x + width + 22, y - 20, 16, 40, fill)
        d.line(x + width + 42, y, x + width + 58, y, arrow=True)
        d.text(x + width + 64, y + 4, text, 12, "start")
    d.save(name)


def staged(name, widths, depths, note, window=None, keys=None):
    """Four maps that halve; `window` is the side of a window, `keys` of the map of keys."""
    d = Drawing(760, 250)
    sides = (150, 110, 80, 58)
    x = 24
    for i, (side, places, width, depth) in enumerate(
        zip(sides, (56, 28, 14, 7), widths, depths, strict=True)
    ):
        y = 190 - side
        cells = places // window if window else (14, 14, 14, 7)[i]
        d.grid(x, y, side, cells)
        d.text(x + side / 2, 208, f"{places} x {places} x {width}", 12)
        d.text(x + side / 2, 225, f"{depth} blocks", 12)
        if keys:
            d.grid(x + side + 6, 190 - 28, 28, keys, SECOND)
        if i < 3:
            end = x + side + (36 if keys else 4)
            d.line(end, 160, end + 28, 160, arrow=True)
            x = end + 34
    end = x + side + (36 if keys else 4)
    d.line(end, 160, end + 24, 160, arrow=True)
    d.text(end + 30, 164, "head", 12, "start")
    d.text(24, 22, note, 12, "start")
    d.save(name)


def main():
    attends = "every token attends to every other"
    plain("vit", [CLASS], ["class token"], f"12 blocks:\n{attends}", [(CLASS, "head")])
    plain(
        "deit",
        [CLASS, SECOND],
        ["class token", "distillation token"],
        f"12 blocks:\n{attends}",
        [(CLASS, "head: labels"), (SECOND, "head: teacher")],
    )
    plain(
        "hybrid",
        [CLASS],
        ["class token"],
        f"12 blocks:\n{attends}",
        [(CLASS, "head")],
        first="map of a CNN\n14 x 14 places",
    )
    d = Drawing(760, 190)
    d.grid(20, 50, 98, 7)
    d.text(69, 166, "patches\n16 x 16 pixels", 12)
    d.line(124, 99, 148, 99, arrow=True)
    end = tokens(d, 156, 79, [])
    d.text((156 + end) / 2, 140, "tokens", 12)
    d.line(end, 99, 322, 99, arrow=True)
    d.box(328, 49, 150, 100, BLOCK)
    d.text(403, 86, "24 blocks:\npatches attend to\neach other", 13)
    d.line(478, 99, 500, 99, arrow=True)
    d.box(506, 49, 140, 100, BLOCK)
    d.text(576, 86, "2 blocks:\nthe class token\nreads the patches", 13)
    d.box(568, 4, 16, 26, CLASS)
    d.text(560, 22, "class token", 12, "end")
    d.line(576, 31, 576, 47, arrow=True)
    d.line(646, 99, 664, 99, arrow=True)
    d.box(668, 79, 16, 40, CLASS)
    d.line(688, 99, 704, 99, arrow=True)
    d.text(710, 103, "head", 12, "start")
    d.save("cait")

    staged(
        "swin",
        (96, 192, 384, 768),
        (2, 2, 6, 2),
        window=7,
        note="SwinTiny: attention within windows of 7 x 7 places (the squares), shifted by half a "
        "window in every second block",
    )
    staged(
        "pvt",
        (64, 128, 320, 512),
        (3, 4, 6, 3),
        keys=7,
        note="PVTSmall: queries are all places; keys and values (green) are reduced to 7 x 7",
    )
    staged(
        "pvt_v2",
        (64, 128, 320, 512),
        (3, 4, 6, 3),
        keys=7,
        note="PVTv2B2: overlapping patches, no positions; keys and values (green) are reduced to "
        "7 x 7",
    )


if __name__ == "__main__":
    main()
