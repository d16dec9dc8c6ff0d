"""Operations without weights, the same on every backend. They depend on Keras and NumPy only."""
