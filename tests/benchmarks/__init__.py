"""Measurements of the library and the jobs, each a script: ``python -m tests.benchmarks.<name> --help``."""
