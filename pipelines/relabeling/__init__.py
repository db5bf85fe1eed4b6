"""The parts of ``pipelines.relabel``."""
