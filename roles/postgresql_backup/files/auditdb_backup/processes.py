# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Other programs: run, fed by each other, and their failures said with what they printed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .errors import BackupError

TAIL_BYTES = 2000
NOTHING = Path(os.devnull)
# Messages of PostgreSQL's programs in English, times in UTC, whatever the caller's session is.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def failure(argv: Sequence[str], code: int, errors: str) -> BackupError:
    """Return the error that says how the program ended."""
    ended = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    said = errors.strip()[-TAIL_BYTES:] or "it printed nothing"
    return BackupError(f"{Path(argv[0]).name} {ended}: {said}", "see what it printed")


def run(argv: Sequence[str], codes: Sequence[int] = (0,), source: Path = NOTHING, **environment: str) -> str:
    """Run the program, fed by a file, which must end with one of these codes, and return what it printed.

    What it prints goes to files: a child that outlives it would keep a pipe open, and the caller waiting for its end.
    Such a child ends with a program that failed.
    """
    with source.open("rb") as file, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = _start(argv, file, output, errors, {**ENVIRONMENT, **environment}, session=True)
        try:
            code = process.wait()
        except BaseException:
            _end_group(process)
            raise
        if code not in codes:
            _end_group(process)
            raise failure(argv, code, _printed(errors) or _printed(output))
        return _printed(output)


@contextmanager
def pipeline(commands: Sequence[Sequence[str]], **environment: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Yield the input of the first program and the output of the last; each is fed by the one before it.

    The block closes the input. After it each program must have succeeded; a block that fails ends them.
    """
    running: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryFile() as errors:
        try:
            for argv in commands:
                source = running[-1].stdout if running else subprocess.PIPE
                running.append(_start(argv, source, subprocess.PIPE, errors, {**ENVIRONMENT, **environment}))
                if len(running) > 1:
                    _stream(running[-2].stdout).close()  # or a program whose reader ended would never know
            broken: BrokenPipeError | None = None
            try:
                yield _stream(running[0].stdin), _stream(running[-1].stdout)
            except BrokenPipeError as error:  # whichever program ended early says why: one of these, or the reader's
                broken = error
            _stream(running[-1].stdout).close()  # what nobody reads any more keeps no program waiting
            for process in running:
                process.wait()
            # The first that failed is the cause; those after it only saw the end of their input.
            for argv, process in zip(commands, running, strict=True):
                if process.returncode and process.returncode != -signal.SIGPIPE:
                    raise failure(argv, process.returncode, _printed(errors))
            if broken:
                raise broken
            if any(process.returncode for process in running):
                raise BackupError("the programs' output was not read to its end", "report this as a defect")
        finally:
            for process in running:
                _end(process)


def _start(
    argv: Sequence[str],
    source: IO[bytes] | int | None,
    output: IO[bytes] | int,
    errors: IO[bytes],
    environment: Mapping[str, str],
    *,
    session: bool = False,
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv, stdin=source, stdout=output, stderr=errors, env=environment, cwd="/", start_new_session=session
        )
    except OSError as error:
        raise BackupError(f"{argv[0]}: {error.strerror}", "install the package that has it") from error


def _printed(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the program, and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
