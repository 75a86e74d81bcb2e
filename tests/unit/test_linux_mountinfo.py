# SPDX-License-Identifier: MIT
"""The mounts of a process, out of the kernel's own words."""

from __future__ import annotations

from wolverined.linux.mountinfo import Mount, mounts

TEXT = r"""
285 267 0:69 / /srv/my\040app rw,nosuid,nodev shared:103 - tmpfs tmpfs rw,size=524288k,mode=777
286 285 0:42 /srv/my\040app/node_modules /srv/my\040app/node_modules ro,nosuid,relatime shared:104 master:1 - ext4 x rw
nonsense
1 2 3
""".strip()


def test_places_with_spaces_are_read_as_they_are() -> None:
    """The kernel writes them in octal; what is no mount is left out."""
    assert mounts(TEXT) == [
        Mount(root="/", point="/srv/my app", kind="tmpfs", readonly=False),
        Mount(root="/srv/my app/node_modules", point="/srv/my app/node_modules", kind="ext4", readonly=True),
    ]


def test_our_own_mounts_have_a_root() -> None:
    """Every process sees one."""
    assert any(mount.point == "/" for mount in mounts())
