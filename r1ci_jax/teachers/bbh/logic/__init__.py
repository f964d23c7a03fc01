"""Teachers of the BIG-Bench-Hard tasks of logic: truth values, arguments, orders."""
