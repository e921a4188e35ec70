"""Plots and the page that holds them."""
