"""The host loop around compiled steps, and what it leaves on disk."""
