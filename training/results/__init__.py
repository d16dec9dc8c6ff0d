"""The run folder and its contents: metrics, figures and the report."""
