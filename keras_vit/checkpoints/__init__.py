"""Load and save pretrained weights. Every tensor is accounted for in a report."""
