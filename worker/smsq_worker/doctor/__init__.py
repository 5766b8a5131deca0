"""`smsq doctor`: checks of an installation, by what they look at; `installation` runs them."""
