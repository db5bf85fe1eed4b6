"""The jobs: each file is one pipeline on Ray, a thin ``main`` over a ``run(config)`` that other jobs and tests call."""

import sys

from fss.core.exit_codes import import_interrupt_hook

if sys.argv[0] == "-m":  # Python is about to run one of them: it imports Ray and torch first, for seconds
    sys.excepthook = import_interrupt_hook
