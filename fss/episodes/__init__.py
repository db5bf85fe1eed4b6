"""Episodes of a query and its supports: plans, benchmarks, mask splits, augmentation and rendering."""
