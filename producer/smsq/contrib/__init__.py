"""What fits smsq into frameworks; each part needs its framework, and nothing else imports it."""
