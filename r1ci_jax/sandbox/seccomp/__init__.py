"""The system-call filter of scripts: read from a policy, compiled for both kinds of jail."""
