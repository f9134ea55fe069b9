"""The researcher's page: give a file, see what was found in it, import it, take it back."""

from __future__ import annotations

import gzip
import json
from html import unescape
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from plumbline.collect.models import Ballot, Campaign, Comparison, Completion, Prompt, PromptSet
from plumbline.transfer import bringing, import_forms, uploads
from plumbline.transfer.models import Import, Upload

URL = "/p/alpha/data/import/"
TABLES = (PromptSet, Prompt, Completion, Campaign, Comparison, Ballot, Import)


@pytest.fixture(autouse=True)
def uploads_dir(settings, tmp_path):
    settings.UPLOADS_DIR = tmp_path / "uploads"


@pytest.fixture
def researcher(alice, client_for):
    return client_for(alice)


def pair(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": f"Question {number}?"}],
        "chosen": [{"role": "assistant", "content": f"Good {number}"}],
        "rejected": [{"role": "assistant", "content": f"Bad {number}"}],
        **changes,
    }


def lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def give(client, *data: bytes, name: str = "mine.jsonl", **said: Any):
    files = [SimpleUploadedFile(name, one) for one in data]
    return client.post(URL, {"chosen": files, "set_name": "pairs", "heldout": "0", **said})


def given(client, data: bytes, **said: Any) -> Upload:
    """A file that was given and read."""
    response = give(client, data, **said)
    assert response.status_code == 302, response.content.decode()
    upload = Upload.objects.latest("created_at")
    bringing.work(upload)
    upload.refresh_from_db()
    return upload


def do(client, upload: Upload, step: str, **said: Any) -> Upload:
    """A step on the page, and the work that it asks for."""
    fields = {name: getattr(upload, name) for name in ("set_name", "format", "licence", "source")}
    fields |= {"heldout": "0", **said}
    response = client.post(f"{URL}{upload.pk}/", {"do": step, **fields})
    assert response.status_code == 302, response.content.decode()
    found = Upload.objects.get(pk=upload.pk)
    bringing.work(found)
    found.refresh_from_db()
    return found


def page(client, upload: Upload) -> str:
    response = client.get(f"{URL}{upload.pk}/")
    assert response.status_code == 200
    return " ".join(unescape(response.content.decode()).split())


def counts() -> list[int]:
    return [table.objects.count() for table in TABLES]


def test_a_file_is_recognised_shown_and_imported(researcher, project):
    before = counts()
    upload = given(researcher, lines(*(pair(n) for n in range(5))), licence="CC0")
    assert (upload.state, upload.format) == ("checked", "trl_preference")
    assert upload.guess["sure"]
    assert counts() == before, "a check leaves nothing"
    text = page(researcher, upload)
    assert "5 rows, all well" in text
    assert "TRL preference, explicit prompt reads 5 of its first 5 lines." in text
    assert ">Preferred</span>" in text
    assert "Good 2" in text
    assert "Good 3" not in text, "three rows are shown"
    done = do(researcher, upload, "import")
    assert done.state == "done"
    assert done.made.licence == "CC0" == PromptSet.objects.get().licence
    assert (done.made.prompts, done.made.ballots) == (5, 5)
    assert not upload.path.exists(), "the file is not kept"
    assert "New votes" in page(researcher, done)
    assert not Campaign.objects.filter(closed_at=None).exists()


def test_bad_rows_are_named_and_stop_everything_until_they_are_left_out(researcher, project):
    data = lines(pair(0), pair(1, chosen="oops"), pair(2)) + b"not json\n" + lines(pair(3))
    upload = given(researcher, data)
    before = counts()
    text = page(researcher, upload)
    assert "2 bad rows" in text
    assert '2</th><td class="mono">chosen</td><td>must be a list of messages' in text
    assert "not JSON: Expecting value" in text
    assert "Leave 2 out, import 3 rows" in text
    refused = do(researcher, upload, "import")  # not what the page offers
    assert refused.state == "failed"
    assert "2 bad rows; nothing was imported" in refused.error
    assert counts() == before
    again = do(researcher, refused, "check")
    done = do(researcher, again, "import-good")
    assert (done.state, done.made.ballots, done.made.left_out) == ("done", 3, 2)


def test_the_same_file_again_changes_nothing(researcher, project):
    data = lines(pair(0), pair(1))
    do(researcher, given(researcher, data), "import")
    before = counts()
    upload = given(researcher, gzip.compress(data), name="copy.jsonl.gz")
    assert "The same rows went into pairs" in page(researcher, upload)
    done = do(researcher, upload, "import")
    assert counts() == before
    assert "were imported on" in page(researcher, done)


def test_an_import_is_undone_and_may_come_again(researcher, project):
    before = counts()
    data = lines(pair(0), pair(1))
    done = do(researcher, given(researcher, data), "import")
    response = researcher.post(f"{URL}{done.made_id}/undo/")
    assert response.status_code == 302
    done.refresh_from_db()
    assert done.state == "undoing"
    bringing.work(done)
    assert counts() == before
    assert "2 votes, 4 answers and 2 prompts were taken back." in page(researcher, done)
    assert do(researcher, given(researcher, data), "import").made.ballots == 2


def test_a_file_that_no_format_reads_asks_what_it_is(researcher, project):
    upload = given(researcher, lines({"question": "a", "better": "b"}))
    text = page(researcher, upload)
    assert (upload.state, upload.format) == ("checked", "")
    assert "No format reads its first lines, which have the fields better, question." in text
    assert "What is it?" in text
    read = do(researcher, upload, "check", format="prompts_jsonl")
    assert "give either 'prompt' or 'messages'" in page(researcher, read)


def test_another_format_is_read_again_before_it_is_imported(researcher, project):
    start = "\n\nHuman: hi\n\nAssistant: "
    upload = given(researcher, lines({"chosen": f"{start}Hello!", "rejected": f"{start}What."}))
    assert upload.format == "hh_rlhf"
    assert "Not certain." in page(researcher, upload)
    read = do(researcher, upload, "import", format="trl_implicit")
    assert (read.state, read.format) == ("checked", "trl_implicit")
    assert do(researcher, read, "import").made.format == "trl_implicit"


def test_a_dropped_file_is_gone(researcher, project):
    upload = given(researcher, lines(pair(0)))
    researcher.post(f"{URL}{upload.pk}/", {"do": "drop"})
    assert not Upload.objects.exists()
    assert not list(upload.path.parent.glob(f"{upload.pk}*"))
    assert researcher.get(f"{URL}{upload.pk}/").status_code == 404


def test_a_step_on_what_has_moved_on_changes_nothing(researcher, project):
    upload = given(researcher, lines(pair(0)))
    done = do(researcher, upload, "import")
    assert not uploads.bring_in(upload)
    assert not uploads.drop(upload)
    assert Upload.objects.get().state == done.state == "done"


def test_several_files_come_at_once(researcher, project):
    response = give(researcher, lines(pair(0)), lines(pair(1)))
    assert response["Location"] == URL
    for upload in Upload.objects.all():
        bringing.work(upload)
    text = unescape(researcher.get(URL).content.decode())
    assert text.count("Waiting for you") == 2
    assert "hx-trigger" not in text


def test_a_page_about_a_file_in_work_asks_again(researcher, project):
    give(researcher, lines(pair(0)))
    upload = Upload.objects.get()
    upload.path.with_suffix(".progress").write_text(
        json.dumps({"done": 5, "total": 9, "unit": "bytes read"})
    )
    text = page(researcher, upload)
    assert 'hx-trigger="every 1s"' in text
    assert "5 of 9 bytes read" in text


def test_too_large_and_too_many_are_refused(researcher, project, monkeypatch):
    monkeypatch.setattr(import_forms, "LARGEST_FILE", 10)
    response = give(researcher, lines(pair(0)))
    assert response.status_code == 422
    assert "is larger than 0 MB; bring it in with manage.py import." in response.content.decode()
    monkeypatch.undo()
    monkeypatch.setattr(import_forms, "MOST_FILES", 1)
    response = give(researcher, lines(pair(0)), lines(pair(1)))
    assert "At most 1 files at once." in response.content.decode()
    monkeypatch.undo()
    monkeypatch.setattr(uploads, "MOST_WAITING", 1)
    give(researcher, lines(pair(0)), lines(pair(1)))
    assert Upload.objects.count() == 1


def test_strangers_and_annotators_see_no_files(researcher, project, bob, charlie, client_for):
    upload = given(researcher, lines(pair(0)))
    assert client_for(bob).get(URL).status_code == 403
    assert client_for(charlie).get(f"{URL}{upload.pk}/").status_code == 404
    assert client_for(charlie).get(f"/p/beta/data/import/{upload.pk}/").status_code == 404
    done = do(researcher, upload, "import")
    response = client_for(charlie).post(f"/p/beta/data/import/{done.made_id}/undo/")
    assert response.status_code == 404


def test_what_a_file_says_is_never_markup(researcher, project):
    nasty = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    row = pair(0, chosen=[{"role": "assistant", "content": nasty}])
    row["prompt"][0]["content"] = nasty
    upload = given(researcher, lines(row), name="<b>x</b>.jsonl")
    raw = researcher.get(f"{URL}{upload.pk}/").content.decode()
    assert "<script>alert" not in raw
    assert "onerror=alert(1)>" not in raw
    assert "<b>x</b>" not in raw
