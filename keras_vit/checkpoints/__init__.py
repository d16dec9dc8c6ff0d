"""Other people's weights, in and out: strict, with a report."""
