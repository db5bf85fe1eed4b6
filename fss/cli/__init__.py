"""The command ``fss``: one module per verb."""
