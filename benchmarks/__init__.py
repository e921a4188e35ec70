"""Measurements of aejax beside the systems its users come from. README.md says how to read them."""
