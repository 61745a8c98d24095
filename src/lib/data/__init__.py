"""Step 01: the registry of data sets, readers, cleaning, near-duplicates, leak-free splits."""
