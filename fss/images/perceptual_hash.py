"""Perceptual hashes: 64 bits that copies of a photograph share, also scaled, recompressed or turned ones.

pHash (C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010): the 8 x 8 lowest
frequencies of the discrete cosine transform of the grey picture at 32 x 32 pixels, each compared with a threshold. The
threshold is zero instead of the median, so that a turned or mirrored picture has the same bits in other places, some
of them inverted.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from fss.core.arrays import Rgb

SIDE, LOW = 32, 8
Hashes = NDArray[np.uint64]
_FLAT = 2.0  # standard deviation of the grey values, of 255, below which a picture shows nothing to compare
_ODD = np.arange(LOW) % 2 == 1


def perceptual_hash(rgb: Rgb) -> int | None:
    """Return the hash of an image, uint8 [H, W, 3], or None if it is nearly of one colour."""
    grey = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    if grey.std() < _FLAT:
        return None
    bits = dctn(grey.astype(np.float32), type=2)[:LOW, :LOW] > 0
    bits[0, 0] = False  # the mean brightness
    return int(_pack(bits[None])[0])


def turned(hashes: Hashes) -> list[Hashes]:
    """Return the hashes of turned and mirrored pictures, six times uint64 [N].

    Two pictures are copies if the hash of one is close to any of these of the other. A turn by 270 degrees is missing,
    since it is the turn by 90 degrees of the other picture.
    """
    bits = np.unpackbits(hashes.astype(">u8").view(np.uint8)).reshape(-1, LOW, LOW).astype(bool)
    turned_bits = bits.transpose(0, 2, 1)
    across, down = _ODD[None, None, :], _ODD[None, :, None]
    variants = [bits ^ across, bits ^ down, bits ^ across ^ down, turned_bits, turned_bits ^ across]
    return [_pack(variant) for variant in (*variants, turned_bits ^ across ^ down)]


def _pack(bits: NDArray[np.bool_]) -> Hashes:
    """Return bits [N, 8, 8] as uint64 [N]."""
    return np.packbits(bits.reshape(-1, LOW * LOW), axis=1).view(">u8").astype(np.uint64).ravel()
