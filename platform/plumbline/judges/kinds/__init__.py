"""Every file in this folder is a kind of judge, found by its name; adding one touches nothing
else."""
