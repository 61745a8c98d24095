"""04: PCA vectors and predictions in; clusters, their purity and the kept pseudo-labels out.

The parts `kmeans.cluster`, `map.project` and `words.describe` know nothing of the `filter`, so that
another threshold recomputes none of them.
"""
