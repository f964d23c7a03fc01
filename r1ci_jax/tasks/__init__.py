"""Tasks: a generator of questions and a rule-based scorer behind one interface."""
