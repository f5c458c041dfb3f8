"""The search: from one file and data to trained networks on a Pareto front."""
