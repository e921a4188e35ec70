"""Trained detectors in folders that score without this package, and the cards that go with them."""
