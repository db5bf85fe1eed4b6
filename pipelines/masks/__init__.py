"""Reports that the mask-making jobs share."""
