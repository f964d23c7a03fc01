"""What the benchmarks are compared with: scripts run by their own environment's Python."""
