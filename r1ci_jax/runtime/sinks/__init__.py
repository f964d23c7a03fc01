"""Metric sinks: other places that show metrics.jsonl while a run goes on."""
