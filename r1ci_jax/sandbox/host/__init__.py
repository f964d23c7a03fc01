"""The host's side of the jail: processes, pools, limits, verdicts."""
