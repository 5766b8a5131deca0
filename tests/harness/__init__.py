"""What several folders of tests stand on; what only one needs is in that folder's conftest.py."""
