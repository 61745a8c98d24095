"""Embeddings (03): a vector and class probabilities for every corpus text.

`store` runs the base classifier over the corpus and keeps what it says in shards, `pca` reduces the
vectors to what K-Means needs, and `probe` is a second opinion on the labels.
"""
