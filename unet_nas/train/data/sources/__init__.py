"""Sources of cases: one file for each kind, one function ``list_cases`` in each."""
