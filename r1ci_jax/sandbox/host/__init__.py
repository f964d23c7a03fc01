"""Host side of the jail: processes, pools, limits, verdicts."""
