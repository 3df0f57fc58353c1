"""What goes wrong with the local stack, told to the person who started it."""


class StackError(Exception):
    """A part of the local stack cannot do what it must; the message says which, why and what to do."""
