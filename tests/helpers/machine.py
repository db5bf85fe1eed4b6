"""What the machine of a test may lack."""

import pytest

from fss.models.precision import cpu_has_bfloat16

needs_bfloat16 = pytest.mark.skipif(not cpu_has_bfloat16(), reason="this CPU has no bfloat16 instructions")
