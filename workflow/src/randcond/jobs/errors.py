"""Errors that are meant for the user: one line, naming the file or setting and what to do."""


class UserError(Exception):
    """Something the user can put right. Shown as one line, without a traceback."""
