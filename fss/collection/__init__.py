"""Photographs in parts and the mask sets that belong to them."""
