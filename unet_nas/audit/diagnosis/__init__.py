"""What the principles of U-Nets say about a network at hand, read from its graph."""
