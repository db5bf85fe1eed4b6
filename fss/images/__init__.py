"""Images and masks as bytes and arrays: decoding, colour modes, headers, the mask codec, resizing."""
