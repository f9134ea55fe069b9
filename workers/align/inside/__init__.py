"""What runs behind the walls of `align.walls`, next to code that nobody has read.

Nothing here imports the rest of `align`: the folder alone is bound into the sandbox, with Python's
standard library and monty.
"""
