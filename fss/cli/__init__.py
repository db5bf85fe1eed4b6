"""The command ``fss``, with one module per verb."""

import sys

from fss.core.import_interrupts import import_interrupt_hook

if sys.argv[0] == "-m" or sys.argv[0].endswith("/fss"):
    sys.excepthook = import_interrupt_hook
