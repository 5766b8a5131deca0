"""Reports of several accounts: each has its own address, whose token says whose they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import requests

from harness.accounts import BACKUP_TOKEN, accounts_file
from harness.api import PATIENCE_S, PLAIN_BODY, REPORT, Serve, inbox, serving_here
from harness.credentials import TOKEN
