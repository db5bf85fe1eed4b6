"""Array aliases of the library, and the mask value of ignored pixels."""

import numpy as np
from numpy.typing import NDArray

IGNORE = 255
"""Mask value of pixels that count as neither object nor background."""

UInt8 = NDArray[np.uint8]
"""8-bit values: masks [H,W], label images [H,W], grey images [H,W] or RGB images [H,W,3]."""
Rgb = NDArray[np.uint8]
"""An RGB picture [H,W,3]."""
Mask = NDArray[np.uint8]
"""A mask [H,W]: 0 background, 1..254 an object or class, 255 ignored."""
BoolArray = NDArray[np.bool_]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
