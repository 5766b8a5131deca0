"""How many connections are held follows the system's limit of open files."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from smsq_worker.api.server import connections_that_fit
print(connections_that_fit(500), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        pytest.param(900, 900, "500 900", id="enough"),
        pytest.param(256, 900, "500 700", id="raised"),
        pytest.param(256, 600, "400 600", id="raised as far as it goes"),
        pytest.param(256, 256, "128 256", id="hardly any"),
    ],
)
def test_connections_fit_into_the_limit_of_open_files(soft: int, hard: int, expected: str) -> None:
    command = [sys.executable, "-c", SCRIPT, str(soft), str(hard)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
