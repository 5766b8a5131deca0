"""The secrets of the installation that the tests run."""

SECRET = "app-secret-Zq81"
TOKEN = "report-token-0123456789"
RELAY = "relay-secret-5521"
