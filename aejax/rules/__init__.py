"""Rules by which thresholds are set, one file each; their names are in `aejax.config.rules`."""
