"""How fast and how lean keras_vit is, beside its peers. `benchmarks/README.md` has the commands."""
