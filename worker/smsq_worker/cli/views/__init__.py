"""What commands do and print, apart from their options: imported only when a command runs."""
