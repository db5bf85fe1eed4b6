"""The array types of the library, and the value of ignored pixels."""

import numpy as np
from numpy.typing import NDArray

IGNORE = 255
"""Value of pixels in a mask that count neither as object nor as background."""

UInt8 = NDArray[np.uint8]
"""Masks and label pictures [H,W], grey pictures [H,W], RGB pictures [H,W,3]."""
Rgb = NDArray[np.uint8]
"""An RGB picture [H,W,3]."""
Mask = NDArray[np.uint8]
"""A mask [H,W]: 0 background, 1..254 an object or class, 255 ignored."""
BoolArray = NDArray[np.bool_]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
