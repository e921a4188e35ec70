"""Files of any size in, Parquet parts out."""
