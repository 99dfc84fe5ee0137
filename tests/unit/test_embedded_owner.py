"""The owner's lock, without a store."""

import os
from pathlib import Path

import pytest

from resolver.clock import SetClock, SystemClock
from resolver.errors import Fault, Reason
from resolver.store.embedded.owner import LOCK_FILE, Owner, OwnerLock, current_owner

OWNER = Owner(pid=7, what="a test", since=0, socket="/run/x.sock")


def test_the_holder_is_known_to_all_and_gone_after_release(tmp_path: Path) -> None:
    lock = OwnerLock.take(tmp_path, OWNER)
    assert current_owner(tmp_path) == OWNER
    with pytest.raises(Fault) as caught:
        OwnerLock.take(tmp_path, Owner.here("another", clock=SystemClock()))
    assert caught.value.reason is Reason.STORE_OWNED
    assert caught.value.variables == {
        "pid": "7",
        "what": "a test",
        "since": "1970-01-01T00:00:00+00:00",
        "socket": "/run/x.sock",
    }
    assert current_owner(tmp_path) == OWNER
    lock.release()
    assert current_owner(tmp_path) is None


def test_a_name_left_behind_is_nobody(tmp_path: Path) -> None:
    """A killed owner leaves the file; only the lock counts."""
    (tmp_path / LOCK_FILE).write_text('{"pid":7,"what":"was killed","since":1,"socket":""}' + " " * 500)
    assert current_owner(tmp_path) is None
    lock = OwnerLock.take(tmp_path, OWNER)
    assert current_owner(tmp_path) == OWNER
    lock.release()


def test_a_holder_that_could_not_write_its_name_is_still_a_holder(tmp_path: Path) -> None:
    lock = OwnerLock.take(tmp_path, OWNER)
    (tmp_path / LOCK_FILE).write_text("")
    owner = current_owner(tmp_path)
    assert owner is not None
    assert owner.pid == 0
    with pytest.raises(Fault):
        OwnerLock.take(tmp_path, OWNER)
    lock.release()


def test_this_process_is_named_with_its_time() -> None:
    owner = Owner.here("a test", clock=SetClock(wall=5.5))
    assert (owner.pid, owner.since, owner.socket) == (os.getpid(), 5.5, "")
