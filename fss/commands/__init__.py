"""The verbs of the command ``fss``, one per file: ``Config`` is what the command line sets, ``run`` does it."""
