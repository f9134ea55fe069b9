"""A person's own keys, from one table."""

from __future__ import annotations

import pytest

from plumbline.collect import keys


def as_sent(**changed: str) -> dict[str, str]:
    return {one.name: " ".join(one.keys) for one in keys.ACTIONS} | changed


def test_the_table_itself_has_no_key_twice():
    assert keys.read(as_sent()) == {}


def test_only_what_differs_is_kept(bob):
    own = keys.read(as_sent(tie="z", flag=""))
    assert own == {"tie": ["z"], "flag": []}
    bob.preferences = {"keys": own}
    bound = {one.action.name: one.keys for one in keys.bound(bob)}
    assert bound["tie"] == ("z",)
    assert bound["flag"] == ()
    assert bound["skip"] == ("s",)


@pytest.mark.parametrize("changed", [{"tie": "s"}, {"skip": "escape"}, {"best": "x"}])
def test_a_key_cannot_mean_two_things_or_close_nothing(changed):
    with pytest.raises(ValueError, match="two things|cannot be changed"):
        keys.read(as_sent(**changed))


def test_a_pair_and_a_ranking_may_share_a_key():
    assert keys.read(as_sent(best="a")) == {"best": ["a"]}


def test_the_page_is_made_from_the_persons_keys(campaign, bob, client_for):
    from plumbline.collect import queue

    client = client_for(bob)
    response = client.post("/p/alpha/my-keys/", as_sent(tie="z"))
    assert response.status_code == 303
    ballot = queue.claim_next(bob, campaign)
    page = client.get(f"/p/alpha/ballots/{ballot.pk}/").content.decode()
    assert 'data-action="tie" data-keys="z"' in page
    response = client.post("/p/alpha/my-keys/", as_sent(tie="s"))
    assert response.status_code == 422
    assert "would mean two things" in response.content.decode()
    client.post("/p/alpha/my-keys/", {"reset": "1"})
    bob.refresh_from_db()
    assert bob.preferences["keys"] == {}
