"""What is said of the machine is true of it."""

import os

from predawn.bench import machine


def test_commit_and_device_are_named() -> None:
    assert machine.commit()
    assert machine.device().endswith(f"x{len(machine.cores())}")


def test_pin_confines_and_unpin_restores() -> None:
    allowed = machine.cores()
    try:
        machine.pin(0, allowed[-1])
        assert machine.cores() == [allowed[-1]]
    finally:
        machine.unpin(0, allowed)
    assert machine.cores() == allowed


def test_cpu_time_of_a_process_grows_with_its_work() -> None:
    before = machine.cpu_ns(os.getpid())
    sum(range(300_000))
    assert machine.cpu_ns(os.getpid()) - before > 500_000


def test_noise_is_a_share_and_says_so() -> None:
    quiet = machine.quiet(2)
    assert 0 <= quiet.stall_share <= 1
    assert str(machine.Quiet(0.5, 10)).startswith("noisy machine: 50.0%")
    assert str(machine.Quiet(0.0, 10)).startswith("quiet machine")
