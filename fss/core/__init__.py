"""Foundations of every package: configuration, storage, retries, random numbers and exit codes. No torch."""
