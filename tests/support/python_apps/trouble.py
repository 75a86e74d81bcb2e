# SPDX-License-Identifier: MIT
# ruff: noqa: B016 - an application as applications are; its port is printed
"""What goes wrong in every one of the applications beside this file: the same names for the same trouble."""

from __future__ import annotations


class Broken(Exception):
    """An error whose words cannot be had."""

    def __str__(self) -> str:
        raise OSError("no words")


def fail(kind: str) -> None:
    """Raise what is asked for."""
    if kind == "plain":
        {}["price"]
    if kind == "chain":
        try:
            int("many")
        except ValueError as error:
            raise RuntimeError("no number") from error
    if kind == "circle":
        first, second = LookupError("first"), LookupError("second")
        first.__cause__, second.__cause__ = second, first
        raise first
    if kind == "big":
        raise ValueError("x" * 10_000_000)
    if kind == "noerror":
        raise "a text is no error"
    if kind == "broken":
        raise Broken
    if kind == "deep":
        fail(kind)


KINDS = ("plain", "chain", "circle", "big", "noerror", "broken", "deep")
