"""Run directory, metrics, progress, preemption, hosts: what a run needs around the method."""
