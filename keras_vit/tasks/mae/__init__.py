"""MAE: masked autoencoders of He et al. 2022."""
