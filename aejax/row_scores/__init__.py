"""What a row's score is, one file a family; their names are in `aejax.config.scores`."""
