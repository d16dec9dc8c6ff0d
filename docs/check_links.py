"""Checks every link of the built site that leads into it: `python docs/check_links.py build/docs`.

A page, picture, script or anchor that does not exist is named, and the exit status is 1. Sphinx
checks what it resolves itself; this reads the pages as a browser does. Addresses of other hosts are
left alone, so that it works offline.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit


class Page(HTMLParser):
    """The anchors of a page, and where it leads."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links = {"", "top"}, []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value is not None:
                self.links.append(value)


def broken(folder):
    """(page, link) of every link within `folder` that leads nowhere, and the number of links."""
    folder = folder.resolve()
    files = [path for path in folder.rglob("*.html") if "_static" not in path.parts]
    pages = {path: Page(path) for path in files}
    found, count = [], 0
    for path, page in pages.items():
        for link in page.links:
            if urlsplit(link).scheme or link.startswith("//"):
                continue
            count += 1
            address, anchor = urldefrag(link)
            target = (path.parent / unquote(urlsplit(address).path)).resolve() if address else path
            known = pages[target].anchors if target in pages else {""}
            if not target.is_file() or (target in pages and unquote(anchor) not in known):
                found.append((path.relative_to(folder), link))
    return found, count


def main():
    found, count = broken(Path(sys.argv[1]))
    for page, link in found:
        print(f"{page}: {link} leads nowhere")
    print(f"{count} links within the site, {len(found)} of them broken")
    return bool(found) or not count


if __name__ == "__main__":
    sys.exit(main())
