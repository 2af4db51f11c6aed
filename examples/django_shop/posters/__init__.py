"""Posters, made to order."""
