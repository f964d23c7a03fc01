"""Commands that start a run on TPU pods: XPK, queued resources or ssh."""
