"""What came from files does not steer a terminal."""

import unicodedata

from keras_vit.checkpoints.report import LoadReport
from keras_vit.picture_files import said_of_others
from keras_vit.table import Table
from keras_vit.terminal import printable
from tests.helpers import once

pytestmark = once  # no backend has a part in it

STEERING = {"Cc", "Cs", "Zl", "Zp"}
DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def test_every_character_that_steers_is_spelled_out_and_no_other():
    for code in range(0x3000):
        character = chr(code)
        steers = unicodedata.category(character) in STEERING
        steers |= unicodedata.bidirectional(character) in DIRECTIONS or code in (
            0x61C,
            0x200E,
            0x200F,
        )
        assert (printable(character) != character) == steers, hex(code)
        assert printable(character).isascii() or not steers
    assert printable("\udcff") == "\\udcff"  # of a name that is no UTF-8
    assert printable("a\x1b]0;b\x07\u202e\n") == "a\\x1b]0;b\\x07\\u202e\\n"


def test_words_stay_as_they_are():
    for text in (
        "tabby, tabby cat",
        "C:\\new",
        "größe",
        "猫",
        "👨‍👩‍👧",
        "می‌خواهم",
        "82\N{NO-BREAK SPACE}%",
    ):
        assert printable(text) == text
    assert printable("a\nb\r\n", lines=True) == "a\nb\\r\n"
    assert printable(7) == "7"


def test_tables_reports_and_lists_of_files():
    table = str(Table(("name", "count"), [("a\x1b[2J\nb", 1)]))
    assert table.count("\n") == 1 and "\\x1b[2J\\n" in table
    report = str(LoadReport("a\x1b.pth", "timm", dropped={"b\x1b[2J\nc": "known \u202e"}))
    assert report.isascii() and report.replace("\n", "").isprintable() and "b\\x1b[2J\\nc" in report
    said = said_of_others(["a/x.HEIC", "a/y.heic", "b\x1b[2J.txt", "Makefile", "z.txt"])
    assert said.startswith("5 files are not read (2 .heic, 2 .txt, 1 without suffix): a/x.HEIC, ")
    assert "\\x1b" in said and "\x1b" not in said and said.endswith(", ...")
    assert said_of_others(["one.svg"]) == "1 file is not read (1 .svg): one.svg"
