# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.places import IS_ROOT, public_tmp, unused_user

from wolverined.cli import application, machine
from wolverined.cli.findings import BAD, OK, WEAK, Finding, run_as
from wolverined.linux.credentials import Credentials


@pytest.fixture
def project() -> Iterator[Path]:
    """A small Python project that the app's user owns, with its configuration beside it."""
    with public_tmp() as place:
        source = place / "app"
        source.mkdir()
        (source / "app.py").write_text("print(1)\n")
        if IS_ROOT:
            os.chown(source, unused_user().pw_uid, unused_user().pw_gid)
        write(place, 'command = ["/usr/bin/python3", "app.py"]')
        yield place


def write(place: Path, *lines: str, more: str = "") -> None:
    """A configuration of the project."""
    text = "\n".join(("[app]", f'directory = "{place}/app"', *lines)) + f"\n{more}"
    (place / "shop.toml").write_text(text)


def doctor(*words: str, **environment: str) -> tuple[int, list[dict[str, str]]]:
    """Run `wolverinectl doctor --json`: its exit code and its findings."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("WOLVERINE", "OPENAI", "XDG"))}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "wolverined.cli", "doctor", *words, "--json"],
        env={**clean, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["ok"] == (done.returncode == 0)
    return done.returncode, answer["checks"]


def about(checks: list[dict[str, str]], words: str) -> dict[str, str]:
    """The one finding that speaks of something."""
    (found,) = [check for check in checks if words in check["what"]]
    return found


def test_every_finding_says_how_to_mend_it(project: Path) -> None:
    """Whatever is not well comes with what to do; what is well asks for nothing."""
    code, checks = doctor(str(project / "shop.toml"))
    assert code == (1 if any(check["level"] == BAD for check in checks) else 0)
    assert len(checks) >= 14
    for check in checks:
        assert check["level"] in {OK, WEAK, BAD}
        assert bool(check["mend"]) == (check["level"] != OK), check


def test_an_application_that_is_well(project: Path) -> None:
    """File, interpreter, port and source of a good project are well."""
    _, checks = doctor(str(project / "shop.toml"), OPENAI_API_KEY="sk-test")
    assert about(checks, "shop.toml can be used")["level"] == OK
    assert "(Python 3" in about(checks, "/usr/bin/python3")["what"]
    assert about(checks, "no port")["level"] == OK
    assert about(checks, "repairs of")["level"] == OK
    assert about(checks, "OPENAI_API_KEY is set")["level"] == OK
    assert not any("sk-test" in check["what"] + check["mend"] for check in checks)


def test_no_key_is_weak(project: Path) -> None:
    """Without a key the known remedies still work."""
    assert about(doctor(str(project / "shop.toml"))[1], "no key of a model")["level"] == WEAK


def test_a_file_that_cannot_be_used_is_bad(project: Path) -> None:
    """Every problem of the file is a line with its place, and the exit code is 1."""
    write(project, 'command = ["/nope/x"]', "port = 80", "prot = 1")
    code, checks = doctor(str(project / "shop.toml"))
    bad = [check["what"] for check in checks if check["level"] == BAD]
    assert code == 1
    assert [what.partition("shop.toml")[2][:3] for what in bad] == [":3:", ":4:", ":5:"]
    assert about(doctor(str(project / "none.toml"))[1], "there is no file")["level"] == BAD


def test_a_port_of_a_stranger_is_bad_and_named(project: Path) -> None:
    """Who listens on the app's port is named; nobody is ended for it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        write(project, 'command = ["/usr/bin/python3", "app.py"]', f"port = {port}")
        code, checks = doctor(str(project / "shop.toml"))
        found = about(checks, f"port {port} is held by")
        assert (code, found["level"]) == (1, BAD)
        assert str(os.getpid()) in found["what"]
    assert about(doctor(str(project / "shop.toml"))[1], f"port {port} is free")["level"] == OK


def test_a_broken_interpreter_is_bad(project: Path) -> None:
    """An interpreter that does not start is told with its own words."""
    broken = project / "python3"
    broken.write_text("#!/bin/sh\necho no such library >&2\nexit 127\n")
    broken.chmod(0o755)
    write(project, f'command = ["{broken}", "app.py"]')
    assert "no such library" in about(doctor(str(project / "shop.toml"))[1], str(broken))["what"]


def test_only_interpreters_are_asked_for_their_version(project: Path) -> None:
    """Another program could take --version for a reason to serve, so it is only looked at."""
    program = project / "serve"
    program.write_text(f"#!/bin/sh\ntouch {project}/ran\n")
    program.chmod(0o755)
    write(project, f'command = ["{program}"]')
    assert about(doctor(str(project / "shop.toml"))[1], "can be started by")["level"] == OK
    assert not (project / "ran").exists()


def test_an_interpreter_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    """A program gets five seconds at most."""
    ran = run_as(None, ["/bin/sleep", "60"], env={}, timeout_s=0.2)
    assert ran == (None, "", "it did not end in time")


@pytest.mark.skipif(not IS_ROOT, reason="only root can become somebody else")
def test_programs_of_the_app_run_as_its_user() -> None:
    """Root never runs what belongs to the application."""
    who = Credentials.of_user("nobody")
    assert run_as(who, ["/usr/bin/id", "-u"], env={}).out == str(unused_user().pw_uid)
    assert "0000000000000000" in run_as(who, ["/bin/grep", "CapEff", "/proc/self/status"], env={}).out


@pytest.mark.skipif(not IS_ROOT, reason="only root can give files away")
def test_a_source_that_its_user_may_not_write(project: Path) -> None:
    """A source whose user cannot write it gets no repair."""
    (project / "app").chmod(0o555)
    assert "no repair can be applied" in about(doctor(str(project / "shop.toml"))[1], "may not write to")["what"]
    os.chown(project / "app", 0, 0)
    write(project, 'command = ["/usr/bin/python3", "app.py"]', 'user = "nobody"')
    checks = doctor(str(project / "shop.toml"))[1]
    assert "belongs to root: no repair is applied" in about(checks, "no repair is applied")["what"]


def test_policies_that_write_nothing_need_no_writer(project: Path) -> None:
    """With heal.policy observe or off nobody asks whether files could be written."""
    write(project, 'command = ["/usr/bin/python3", "app.py"]', more='[heal]\npolicy = "off"\n')
    checks = doctor(str(project / "shop.toml"))[1]
    assert about(checks, "nothing is written")["level"] == OK
    assert about(checks, "no model is asked")["level"] == OK


def test_nothing_is_left_behind(project: Path) -> None:
    """What was tried is taken down again: cgroups, directories, files of the project."""

    def traces() -> set[str]:
        cgroups = {str(path) for path in Path("/sys/fs/cgroup").glob("**/*doctor*")}
        return cgroups | {path.name for path in Path("/tmp").glob("wolverine-doctor-*")}

    before = traces()
    doctor(str(project / "shop.toml"))
    assert traces() <= before
    assert sorted(path.name for path in (project / "app").iterdir()) == ["app.py"]


def test_a_person_reads_one_line_a_thing(project: Path) -> None:
    """Without --json: level, what, and after an arrow how to mend it."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "wolverined.cli", "doctor"],
        env={"PATH": os.environ["PATH"], "LANG": "C", "HOME": str(project)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert all(line.split()[0] in {OK, WEAK, BAD} for line in lines)
    assert all(("  -> " in line) == (not line.startswith(OK)) for line in lines)


@pytest.mark.parametrize(
    ("told", "levels"),
    [
        ({"kind": "full", "step": "", "error": "", "hint": ""}, [OK, OK, OK]),
        ({"kind": "binds", "step": "", "error": "", "hint": ""}, [OK, WEAK, OK]),
        ({"kind": "full", "step": "seccomp", "error": "no filter", "hint": ""}, [OK, OK, WEAK]),
        ({"kind": "full", "step": "proc", "error": "no /proc", "hint": "leave the container"}, [OK, OK, WEAK]),
        ({"kind": "", "step": "tree", "error": "mount", "hint": "leave the container"}, [OK, WEAK]),
        ({"kind": "", "step": "namespaces", "error": "unshare", "hint": "allow them"}, [WEAK]),
    ],
)
def test_each_wall_is_told_as_far_as_it_came(told: dict[str, str], levels: list[str]) -> None:
    """The first wall that cannot be built is the last that is told, with what follows from it."""
    findings = list(machine._judge(told))
    assert [finding.level for finding in findings] == levels
    assert all(finding.mend for finding in findings if finding.level != OK)


def test_the_very_setting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When user namespaces are refused, the setting that does it is named, not all that could."""
    for number, (path, value, _) in enumerate(machine._SETTINGS):
        (tmp_path / str(number)).write_text(f"{value}\n")
        others = [(str(tmp_path / "missing"), value, "another")] * number
        monkeypatch.setattr(machine, "_SETTINGS", (*others, (str(tmp_path / str(number)), value, f"mend {path}")))
        assert machine.setting() == f"mend {path}"
        monkeypatch.undo()


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place is judged by whether it can be written, has room, and is short enough for a socket."""
    assert machine.place(tmp_path / "not" / "yet", "state directory").level == OK
    assert machine.place(tmp_path / ("x" * 120), "runtime directory").level == BAD
    full = os.statvfs_result((4096, 4096, 10**6, 10, 10, 10**6, 10**6, 10**6, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _path: full)
    assert machine.place(tmp_path, "state directory").level == BAD
    if not IS_ROOT:
        assert machine.place(Path("/usr/wolverine"), "state directory").mend


def test_an_old_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old Python is bad, an old kernel weak, a clock of the past bad, a missing program bad."""
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    assert machine.python().level == BAD
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "h", "5.10.0-1", "v", "x86_64")))
    assert machine.kernel().level == WEAK
    monkeypatch.setattr(machine.time, "time", lambda: 0.0)
    assert machine.clock().level == BAD
    monkeypatch.setattr(machine, "_PROGRAMS", {"/nope/setpriv": "util-linux"})
    assert Finding(BAD, "/nope/setpriv is missing, and every start goes through it", "apt-get install util-linux") in (
        *machine.programs(),
    )


def test_a_holder_in_our_own_cgroup_is_the_application(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application's own listening socket is no stranger, by its cgroup or its pid."""
    from wolverined.config.load import load
    from wolverined.linux.ports import Holder

    write(project, 'command = ["/usr/bin/python3", "app.py"]', "port = 3000")
    config = load(project / "shop.toml").config

    def held(cgroup: str, pid: int | None) -> Holder:
        return Holder(port=3000, uid=0, user="root", cgroup=cgroup, pid=pid, command="x", ours=False)

    for cgroup, level in {
        "/user/wolverine-shop/app-1": OK,
        "/system.slice/system-wolverine.slice/wolverine@shop.service/app-3": OK,
        "/user/wolverine-shop-0123abcd/app-1": OK,
        "/user/wolverine-shopping/app-1": BAD,
        "": BAD,
    }.items():
        monkeypatch.setattr(application, "_holder", lambda _port, cgroup=cgroup: held(cgroup, None))
        assert application.port(config, name="shop", running=frozenset()).level == level
    monkeypatch.setattr(application, "_holder", lambda _port: held("", 77))
    assert application.port(config, name="shop", running=frozenset({77})).level == OK
