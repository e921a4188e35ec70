"""Networks as Linen modules, without loss or jit."""
