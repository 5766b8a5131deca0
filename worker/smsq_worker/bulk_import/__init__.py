"""A file of messages: read it, check it, send it, and go on where a run was broken off.

Everything streams: what is kept in memory does not grow with the file, but for eight bytes a row
where double numbers are looked for.
"""
