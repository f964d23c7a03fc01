"""Tasks: a generator of questions and a rule-based scorer, each behind one interface."""
