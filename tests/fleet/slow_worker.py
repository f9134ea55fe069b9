"""`manage.py worker` with `slow_job` as the program of every kind of job."""

import os
import sys

from align import jobs

jobs.MODULES.update(dict.fromkeys(jobs.MODULES, "slow_job"))

if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "plumbline.settings"
    from django.core.management import execute_from_command_line

    execute_from_command_line(["manage.py", "worker", *sys.argv[1:]])
