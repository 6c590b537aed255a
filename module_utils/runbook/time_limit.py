# SPDX-License-Identifier: GPL-3.0-or-later
"""A time limit for work in sessions of ours, whatever it is that they wait for.

A statement_timeout is no such thing: it begins anew with each statement, and a file may set its own.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.session import Session, SqlError


class TimeIsUp(Exception):
    """The work was broken off, and its session with it."""


class TimeLimit:
    """Time that begins to run now.

    Parameters:
        seconds: how much; 0 for no limit.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds if seconds else None

    @contextlib.contextmanager
    def over(self, session: Session) -> Iterator[None]:
        """Break off what is done in here with a session when the time is up.

        Raises:
            TimeIsUp: when it is; the session is no longer of use then.
        """
        if self._end is None:
            yield
            return
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeIsUp
        up = threading.Event()
        timer = threading.Timer(left, _break_off, (session, up))
        timer.daemon = True
        timer.start()
        try:
            yield
        except (RunbookError, SqlError) as error:
            if up.is_set():
                raise TimeIsUp from error
            raise
        finally:
            timer.cancel()
            timer.join()


def _break_off(session: Session, up: threading.Event) -> None:
    up.set()
    session.hang_up()
