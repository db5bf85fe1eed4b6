"""The heads that compare query and supports: MaskSplit, HSNet, ASNet and VAT."""
