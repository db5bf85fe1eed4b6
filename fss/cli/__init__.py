"""The command ``fss``, with one module per verb."""
