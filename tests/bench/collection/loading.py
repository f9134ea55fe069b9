"""A durable PostgreSQL, and campaigns of any size in it, made by the database itself."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.environment import Postgres

OVERLAP = 2
FULL, ANSWERED = 0.2, 0.1  # of a campaign: has its votes; was answered by the veteran
SHARING = 10  # comparisons of one prompt
CROWD = 50  # people whose votes are there already, half of them for each seat
PROMPTS = """
INSERT INTO collect_prompt (set_id, messages, split, digest)
SELECT %(set)s, jsonb_build_array(jsonb_build_object(
    'role', 'user', 'content', 'Question ' || n || ': ' || repeat('what do you think? ', 8))),
    'train', repeat(md5(n::text), 2)
FROM generate_series(1, %(prompts)s) AS n
"""
COMPLETIONS = """
INSERT INTO collect_completion (id, prompt_id, origin, text, finish_reason, sampling, draw,
    created_at)
SELECT gen_random_uuid(), prompt.id, 'a bench', draw || ': ' || repeat('I think so. ', 50), 'stop',
    '{}', draw, now()
FROM collect_prompt AS prompt, generate_series(0, 1) AS draw WHERE prompt.set_id = %(set)s
"""
COMPARISONS = """
INSERT INTO collect_comparison (campaign_id, prompt_id, priority, strategy, p_select, why, kind,
    explanation, "full", created_at)
SELECT %(campaign)s, prompt.id, 0, 'random', 1.0, '{}', 'ordinary', '', false, now()
FROM generate_series(1, %(sharing)s) AS n, collect_prompt AS prompt WHERE prompt.set_id = %(set)s
"""
CANDIDATES = """
INSERT INTO collect_candidate (comparison_id, completion_id, slot)
SELECT comparison.id, completion.id, completion.draw
FROM collect_comparison AS comparison
JOIN collect_completion AS completion ON completion.prompt_id = comparison.prompt_id
WHERE comparison.campaign_id = %(campaign)s
"""
BALLOTS = """
INSERT INTO collect_ballot (id, comparison_id, annotator_id, revision, seat, shown,
    settings_version, claimed_at, expires_at, cast_at, outcome, ranking, strength, ratings,
    corrections, spans, reasons, reason, comment)
SELECT gen_random_uuid(), comparison.id, (%(people)s)[1 + (place %% %(among)s)], 1, %(seat)s,
    '[0, 1]', 1, at, at + interval '15 minutes', at, 'ranked', '[[0], [1]]', 2, '{}',
    '{}', '[]', '[]', '', ''
FROM (
    SELECT id, row_number() OVER (ORDER BY id) AS place,
        now() - interval '60 days' + id %% 5000000 * interval '1 second' AS at
    FROM collect_comparison WHERE campaign_id = %(campaign)s
) AS comparison WHERE place > %(after)s AND place <= %(upto)s
"""
# As votes would have left it.
FILLED = """
UPDATE collect_comparison SET "full" = true WHERE campaign_id = %(campaign)s AND id IN (
    SELECT id FROM collect_comparison WHERE campaign_id = %(campaign)s ORDER BY id LIMIT %(full)s
)
"""


class Database(Postgres):
    """As production has it: what is committed is on the disk."""

    def start(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        data = self.folder / "data"
        self._run("initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync")
        options = (
            f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' "
            "-c shared_buffers=512MB -c max_wal_size=4GB"
        )
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", str(data), "-w", "-l", log, "-o", options, "start")
        os.environ["PGHOST"] = str(self.folder)

    def process(self) -> int:
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])


def cpu_seconds(*roots: int) -> float:
    """What processes and all that they started have used, those that have ended included."""
    used: dict[int, float] = {}
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            pid = int(path.parent.name)
            parents[pid] = int(fields[1])
            used[pid] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    found, waiting = set(), set(roots)
    while waiting:
        found |= waiting
        waiting = {pid for pid, parent in parents.items() if parent in waiting} - found
    return sum(used.get(pid, 0.0) for pid in found)


@dataclass(frozen=True)
class Loaded:
    campaign: Any
    people: list[Any]  # who have answered nothing yet
    veteran: Any
    researcher: Any


def load(size: int, people: int) -> Loaded:
    """A campaign of `size` comparisons in a project of its own, and people to answer it."""
    from django.core.management import call_command
    from django.db import connection

    from plumbline.accounts.models import Membership, Project, User
    from plumbline.collect.models import Campaign, Enrolment, PromptSet

    call_command("migrate", verbosity=0)
    project = Project.objects.create(name=f"Bench {size}", slug=f"bench-{size}")
    campaign = Campaign.objects.create(
        project=project, name=f"{size}", overlap=OVERLAP, overlap_applied=OVERLAP
    )
    prompts = PromptSet.objects.create(project=project, name="Prompts")
    everybody = User.objects.bulk_create(
        User(username=f"{size}-{number}") for number in range(people + CROWD + 1)
    )
    Membership.objects.bulk_create(
        Membership(project=project, user=one, role="annotator") for one in everybody
    )
    here, crowd, veteran = everybody[:people], everybody[people:-1], everybody[-1]
    researcher = User.objects.create(username=f"{size}-researcher")
    Membership.objects.create(project=project, user=researcher, role="researcher")
    full, answered = int(FULL * size), int(ANSWERED * size)
    named = {
        "set": prompts.pk,
        "campaign": campaign.pk,
        "prompts": -(-size // SHARING),
        "sharing": SHARING,
    }
    half = CROWD // 2
    votes = [
        {"seat": 0, "people": [one.pk for one in crowd[:half]], "after": 0, "upto": full},
        {"seat": 1, "people": [one.pk for one in crowd[half:]], "after": 0, "upto": full},
        {"seat": 0, "people": [veteran.pk], "after": full, "upto": full + answered},
    ]
    with connection.cursor() as cursor:
        for statement in (PROMPTS, COMPLETIONS, COMPARISONS, CANDIDATES):
            cursor.execute(statement, named)
        for one in votes:
            cursor.execute(BALLOTS, {**named, **one, "among": len(one["people"])})
        cursor.execute("ANALYZE collect_comparison")  # or the next may be planned for few rows
        cursor.execute(FILLED, {**named, "full": full})
        Enrolment.objects.bulk_create(
            Enrolment(campaign=campaign, user=one, votes=number, tests=0)
            for one, number in [*((one, full // half) for one in crowd), (veteran, answered)]
        )
        cursor.execute("VACUUM (ANALYZE)")
    return Loaded(campaign, here, veteran, researcher)
