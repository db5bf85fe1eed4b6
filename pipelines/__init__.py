"""The jobs: each module is one pipeline on Ray, with a ``run(config)`` and a command line."""

import sys

from fss.core.import_interrupts import import_interrupt_hook
from fss.core.system import let_threads_sleep

# ``python -m`` is about to import a job, which takes seconds; a Ctrl-C has to end it cleanly.
if sys.argv[0] == "-m":
    sys.excepthook = import_interrupt_hook
let_threads_sleep()  # before torch is imported
