"""Models of tasks beyond classification: a folder for each paper."""
