# SPDX-License-Identifier: MIT
"""The rooms of one daemon as one value, for who takes all of it apart and for who puts it together again."""

from __future__ import annotations

import msgspec

from wolverined.control.changes import Changes
from wolverined.control.server import Server
from wolverined.daemon.desk import Desk
from wolverined.daemon.inforce import InForce
from wolverined.daemon.knowledge import Secrets as Known
from wolverined.daemon.listener import Listener
from wolverined.daemon.mainline import MainLine
from wolverined.daemon.narrator import Narrator
from wolverined.daemon.places import RuntimePlace
from wolverined.daemon.service import Service
from wolverined.heal.dispatch import Dispatcher
from wolverined.linux.leaf import Hierarchy
from wolverined.sense.reports import ReportServer
from wolverined.store import Store
from wolverined.supervise.supervisor import Supervisor


class Rooms(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that gives a part to a successor, and takes it there."""

    force: InForce
    hierarchy: Hierarchy
    place: RuntimePlace
    store: Store
    known: Known
    narrator: Narrator
    service: Service
    supervisor: Supervisor
    listener: Listener
    desk: Desk
    dispatcher: Dispatcher
    reports: ReportServer
    server: Server
    changes: Changes
    main_line: MainLine
