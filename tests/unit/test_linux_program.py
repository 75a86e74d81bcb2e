# SPDX-License-Identifier: MIT
"""How a program is looked for on behalf of a user who may see more, or less, than we do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.places import IS_ROOT, public_tmp, unused_user
from support.surgeons import forked

from wolverined.linux.credentials import Credentials
from wolverined.linux.program import Start, check


def tool(place: Path, *, mode: int) -> Path:
    """A directory of that mode with a program in it."""
    place.mkdir()
    (place / "tool").write_text("#!/bin/sh\n")
    (place / "tool").chmod(0o755)
    place.chmod(mode)
    return place


@pytest.mark.skipif(not IS_ROOT, reason="needs root to be somebody else")
def test_a_part_of_path_that_is_closed_to_us_is_searched_by_the_programs_user() -> None:
    """A version manager in a private home comes before the system's program of the same name, as in a login."""
    user = unused_user()
    searched = Start(argv=("/usr/bin/env", "--chdir=/", "--", "tool", "x"), cwd=None)

    def looks_like(search: str, wanted: Start) -> bool:
        def main() -> int:
            os.setgroups([])
            os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
            os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
            somebody = Credentials.of_user("root")
            return int(check(["tool", "x"], cwd="/", env={"PATH": search}, credentials=somebody) != wanted)

        return os.waitpid(forked(main), 0)[1] == 0

    with public_tmp() as place:
        private, public = tool(place / "private", mode=0o700), tool(place / "public", mode=0o755)
        assert looks_like(f"{private}:{public}", searched)
        assert looks_like(f"{public}:{private}", Start(argv=(f"{public}/tool", "x"), cwd="/"))
