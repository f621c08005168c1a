"""Text of another program, before it goes to a terminal: a control character in it would be obeyed, not shown."""


def visible(text: str) -> str:
    r"""Return text on one line, in which each character that is not printable is its escape, such as \x1b or \n."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
