"""Embeddings (03): the store of vectors and probabilities, PCA, the linear probe."""
