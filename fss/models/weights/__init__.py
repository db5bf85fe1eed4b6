"""Weights files: what a file is, the tensors in it, and loading them into a network.

``reading.open_weights`` is the one function that opens a file with weights.
"""
