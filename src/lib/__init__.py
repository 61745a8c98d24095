"""From a big noisy pile of text to a small Russian sentiment model, step by step."""

__version__ = "0.1.0"

LABELS = ("negative", "neutral", "positive")
"""The three classes; a label is an index into this tuple everywhere in the project."""
