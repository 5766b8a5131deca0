"""`smsq doctor`: checks of an installation, one module for each part; `installation` runs them."""
