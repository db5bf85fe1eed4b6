"""The parts of ``pipelines.selftrain``."""
