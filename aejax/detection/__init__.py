"""Thresholds, reasons, quality, and the detector itself."""
