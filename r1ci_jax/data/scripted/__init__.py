"""Demonstrations by the scripted teachers of the real suite: strategies, slips, writing, resume."""
