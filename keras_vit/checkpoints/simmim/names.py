"""No other library's names: files of SimMIM are our own."""

TABLES = ()
