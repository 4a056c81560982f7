"""What `make test` says at its end when something failed."""

from __future__ import annotations

import subprocess
from pathlib import Path

SUMMED = Path(__file__).resolve().parents[1] / "summed.sh"
FRAMED = "\x1b[2m\u2502\x1b[0m "
PRINTED = [
    f"{FRAMED}E   AssertionError: a reason",
    f"{FRAMED}FAILED tests/test_a.py::test_b - AssertionError: a reason",
    f"{FRAMED}FAILED",
    f"{FRAMED}  tests/test_a.py::test_with_a_long_name",
    "FAILED - RETRYING: [a]: Wait",
    *["much else"] * 100,
    "==> FAILED: Scenario a (exit code 1)",
]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SUMMED, *command], stdout=subprocess.PIPE, text=True, check=False)


def test_what_failed_is_said_again_at_the_end_without_frame_and_colours():
    done = run("sh", "-c", 'printf "%s\\n" "$@"; exit 3', "sh", *PRINTED)
    printed, summary = done.stdout.split("\n==> What failed (exit code 3)\n")
    assert done.returncode == 3
    assert printed.splitlines() == PRINTED
    assert summary.splitlines() == [
        "E   AssertionError: a reason",
        "FAILED tests/test_a.py::test_b - AssertionError: a reason",
        "FAILED",
        "  tests/test_a.py::test_with_a_long_name",
        "==> FAILED: Scenario a (exit code 1)",
    ]


def test_what_went_well_is_passed_on_as_it_is():
    done = run("echo", "FAILED is a word")
    assert done.returncode == 0
    assert done.stdout == "FAILED is a word\n"


def test_a_failure_that_gives_no_reason_keeps_its_exit_code():
    done = run("sh", "-c", "echo nothing; exit 5")
    assert done.returncode == 5
    assert done.stdout.endswith("==> What failed (exit code 5)\n")
