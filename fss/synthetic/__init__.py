"""The painted sample: pictures with known masks, for tests and the first run."""
