"""Image files that are damaged, odd or hostile."""
