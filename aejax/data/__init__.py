"""Rows on the host, in NumPy: data sets, files, batches."""
