# SPDX-License-Identifier: MIT
from pathlib import Path

import msgspec
import pytest

from wolverined.config.schema import AppTable, Config
from wolverined.heal.job import Conclusion, Job, Result, Task
from wolverined.model import Incident, IncidentKind


def job() -> Job:
    """Give a job with paths and nested tables in it."""
    config = Config(app=AppTable(command=("node", "a.js"), directory=Path("/srv/app"), environment_file=Path("/e")))
    incident = Incident(id="i1", fingerprint="f", kind=IncidentKind.CRASH, error="TypeError")
    return Job(task=Task.HEAL, name="app", state_dir="/s", config=config, incident=incident, tail=("a", "b"))


def test_a_job_survives_the_stream_as_json() -> None:
    """Paths, enums and nested tables come out of JSON as they went in."""
    text = msgspec.json.encode(job().encode())
    assert Job.decode(msgspec.json.decode(text)) == job()


@pytest.mark.parametrize("damage", [{"task": "explode"}, {"tail": 3}, {"config": {}}, {"state_dir": None}])
def test_a_job_that_is_not_one_is_refused(damage: dict[str, object]) -> None:
    """A heal process does not guess what a damaged job may have meant."""
    with pytest.raises(msgspec.ValidationError):
        Job.decode({**job().encode(), **damage})


def test_a_result_survives_the_stream_as_json() -> None:
    """The conclusion that the daemon acts on is the one that the heal gave."""
    result = Result(conclusion=Conclusion.WAIT, said="later", retry_after_s=3.5)
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(result)), Result) == result
