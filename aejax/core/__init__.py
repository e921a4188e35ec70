"""The mathematics: pure functions, with no I/O, no clock and no randomness of their own."""
