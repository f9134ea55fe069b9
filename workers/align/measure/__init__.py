"""How good a reward model is, and how far one can be followed: pure functions of scores.

No torch, no numpy and no database: a worker, a web process and a bench measure alike, and every
figure can be worked by hand.
"""
