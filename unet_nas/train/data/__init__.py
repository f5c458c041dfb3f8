"""Data: from a person's files to cases that the loop takes patches of."""
