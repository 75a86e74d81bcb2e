# SPDX-License-Identifier: MIT
"""The mounts of a process, out of the kernel's own words."""

from __future__ import annotations

import pytest

from wolverined.linux.mountinfo import Mount, located, mounts

TEXT = r"""
285 267 0:69 / /srv/my\040app rw,nosuid,nodev shared:103 - tmpfs tmpfs rw,size=524288k,mode=777
286 285 0:42 /srv/my\040app/node_modules /srv/my\040app/node_modules ro,nosuid,relatime shared:104 master:1 - ext4 x rw
nonsense
1 2 3
""".strip()


def test_places_with_spaces_are_read_as_they_are() -> None:
    """The kernel writes them in octal; what is no mount is left out."""
    assert mounts(TEXT) == [
        Mount(device="0:69", root="/", point="/srv/my app", kind="tmpfs", readonly=False),
        Mount(
            device="0:42",
            root="/srv/my app/node_modules",
            point="/srv/my app/node_modules",
            kind="ext4",
            readonly=True,
        ),
    ]


def test_our_own_mounts_have_a_root() -> None:
    """Every process sees one."""
    assert any(mount.point == "/" for mount in mounts())


@pytest.mark.parametrize(
    ("path", "device", "root"),
    [
        ("/srv/a", "8:1", "/srv/a"),
        ("/", "8:1", "/"),
        ("/home", "8:2", "/"),
        ("/home/u/x", "8:2", "/u/x"),
        ("/homes/u", "8:1", "/homes/u"),
        ("/part/x", "8:3", "/whole/part/x"),
        ("/twice/x", "8:5", "/x"),
    ],
)
def test_a_path_lies_in_the_last_mount_that_covers_it(path: str, device: str, root: str) -> None:
    """As a bind of it would say: by whole names, the deepest, of two at one place the later."""
    known = [
        mount("8:1", "/", "/"),
        mount("8:2", "/", "/home"),
        mount("8:3", "/whole/part", "/part"),
        mount("8:4", "/", "/twice"),
        mount("8:5", "/", "/twice"),
    ]
    assert located(path, known) == (device, root)


def mount(device: str, root: str, point: str) -> Mount:
    """One mount, of no matter what."""
    return Mount(device=device, root=root, point=point, kind="ext4", readonly=False)
