"""The run folder and what is written to it: metrics, figures and the report."""
