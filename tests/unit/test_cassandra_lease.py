"""When a writer counts as gone."""

import pytest

from resolver.errors import Fault, Reason
from resolver.store.cassandra.lease import Beat, Verdict, Watch
from resolver.store.cassandra.settings import LeaseSettings
from resolver.units import Duration


def seen(*looks: tuple[float, float, Beat], patience: float = 6) -> list[Verdict]:
    """Give what a watch says after each look: when it began, how long it took, and what was seen."""
    watch = Watch(patience)
    return [watch.see(beat, began=began, ended=began + took) for began, took, beat in looks]


def test_a_store_that_nobody_has_written_to_is_free() -> None:
    assert seen((0, 0, Beat(0, 0))) == [Verdict.GONE]


def test_a_writer_that_has_let_go_is_gone_at_once() -> None:
    assert seen((0, 0, Beat(3, 7)), (1, 0, Beat(3, 8, is_released=True))) == [Verdict.UNSURE, Verdict.GONE]


def test_a_writer_whose_signs_of_life_go_on_is_alive_however_long_it_is_watched() -> None:
    looks = [(float(each), 0.1, Beat(1, each)) for each in range(100)]
    assert seen(*looks) == [Verdict.UNSURE] + [Verdict.ALIVE] * 99


def test_a_writer_whose_signs_of_life_have_stopped_is_gone_when_its_lease_is_over_and_not_before() -> None:
    looks = [(float(each), 0.0, Beat(1, 5)) for each in range(8)]
    assert seen(*looks) == [Verdict.UNSURE] * 6 + [Verdict.GONE] * 2


def test_the_time_that_looking_takes_is_not_counted_against_the_writer() -> None:
    """Neither a first look that took long, nor one during which the watcher itself was stopped."""
    assert seen((0, 5, Beat(1, 5)), (10, 0, Beat(1, 5)), (11, 0, Beat(1, 5)))[1:] == [Verdict.UNSURE, Verdict.GONE]
    assert seen((0, 0, Beat(1, 5)), (1, 60, Beat(1, 5)), (61, 0, Beat(1, 6)))[1:] == [Verdict.UNSURE, Verdict.ALIVE]


def test_another_epoch_is_a_sign_of_life() -> None:
    assert seen((0, 0, Beat(1, 5)), (7, 0, Beat(2, 5)), (12, 0, Beat(2, 5)), (13, 0, Beat(2, 5)))[1:] == [
        *(Verdict.ALIVE, Verdict.UNSURE, Verdict.GONE),
    ]


def test_a_time_in_which_nothing_could_be_seen_is_not_counted() -> None:
    watch = Watch(6)
    watch.see(Beat(1, 5), began=0, ended=0)
    watch.forget()
    assert watch.see(Beat(1, 5), began=7, ended=7) is Verdict.UNSURE
    assert watch.see(Beat(1, 5), began=12, ended=12) is Verdict.UNSURE
    assert watch.see(Beat(1, 5), began=13, ended=13) is Verdict.GONE


@pytest.mark.parametrize(("lease", "beat_every", "patience"), [(2, 1, 10), (6, 0, 10), (6, 1, 0)])
def test_settings_that_cannot_work_are_refused(lease: float, beat_every: float, patience: float) -> None:
    with pytest.raises(Fault) as caught:
        LeaseSettings(lease=Duration(lease), beat_every=Duration(beat_every), patience=Duration(patience))
    assert caught.value.reason is Reason.SETTING_INVALID
