"""Arithmetic without weights, alike on every backend. Knows keras and numpy only."""
