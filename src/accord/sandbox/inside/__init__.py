"""What runs on the other side: it makes the box, shuts itself in, and only then reads what it is to run.

These modules are run by `python -I -S` without the rest of Accord, so they import each other and the standard library
and nothing else. `launch` is where it starts.
"""
