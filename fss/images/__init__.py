"""Images and masks as bytes and arrays: decoding, colour modes, headers, mask encoding and resizing."""
