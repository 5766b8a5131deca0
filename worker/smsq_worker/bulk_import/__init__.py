"""The import of a file of messages: read, check, enqueue, follow, and resume after an interruption.

`run` holds the act. Everything streams: memory does not grow with the file, except for eight bytes
a row in a dry run, which looks for numbers that occur twice.
"""
