"""SimMIM: simple masked image modelling of Xie et al. 2022."""
