"""What a torture reports, and what of it is a fault."""

from predawn.bench.torture_tally import ERRORS, Tally, faults

COUNTS = {
    name: 0
    for name in ("reads", "misses", "puts", "removals", "undecided", "ways_lost", "puts_busy")
}


def test_faults_name_every_count_that_must_be_zero() -> None:
    tally = Tally(valid_before=100, found_after=98, stuck_sets=1, stalled=1)
    tally.counts = dict.fromkeys(ERRORS, 1)
    found = faults(tally.report(1.0, 4, 1))
    assert [sentence.split()[0] for sentence in found[:-1]] == list(ERRORS)
    assert "restart_found_share is 0.9800" in found[-1]


def test_a_run_without_errors_has_no_faults() -> None:
    assert faults(Tally(valid_before=100, found_after=99).report(1.0, 4, 1)) == []


def test_sentences_of_the_stores_check_count_as_broken() -> None:
    report = Tally(sentences=["set 3 way 4: is damaged"]).report(1.0, 4, 1)
    assert report["broken"] == 1 and faults(report) == ["broken is 1, must be 0"]


def test_counts_of_phases_are_added_and_the_longest_history_is_kept() -> None:
    tally = Tally()
    tally.add_phase("one", 2.0, {**COUNTS, "reads": 5, "puts_busy": 1, "changes_of_one_key": 7})
    tally.add_phase("two", 2.0, {**COUNTS, "reads": 6, "puts_busy": 2, "changes_of_one_key": 3})
    report = tally.report(4.0, 4, 1)
    assert report["reads"] == 11 and report["puts_given_up"] == 3
    assert report["changes_of_one_key"] == 7 and report["reads_per_second"] == 11 / 4
