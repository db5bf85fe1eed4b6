"""The parts of ``pipelines.masksplit``."""
