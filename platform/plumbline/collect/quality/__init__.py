"""How good the votes are: settings, hidden tests, agreement, skill, bias and speed, and reports.

The arithmetic is pure functions of plain data and plain Python; only `mixing`, `gold`, `planting`,
`reading` and `people` touch the database. Nothing here changes or reweights a vote.
"""
