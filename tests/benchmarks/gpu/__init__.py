"""Sections of the GPU check, ``python -m tests.benchmarks.gpu_check``."""
