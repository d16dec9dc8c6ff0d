"""What the library says of its arguments, in the words of a command."""

import re

# Arguments of the library that a command has under another name.
RENAMED = {"path": "output", "heads": "head", "classes": "class_", "layers": "layer"}
PHRASES = (
    ("keras_vit.list_checkpoints()", "keras-vit list"),
    ("keras_vit.list_models()", "keras-vit list --models"),
    (
        "keras_vit.grad_cam(model, images), or attention_maps of",
        "--kind grad-cam, or --kind heads of",
    ),
    (
        "A picture must be a path, bytes, a PIL image or an array, and complete.",
        "This is no picture, or a broken one.",
    ),
    ("; scale it to 0..255 and pass the array", ""),
    ("; or pass format=...", ""),
)
VALUE = r"\.\.\.|'[^']*'|\"[^\"]*\"|<\S+: '[^']*'>|\([^)]*\)|\[[^]]*\]|-?[\w/]+(?:\.\w+)*"
IN_PYTHON = (
    " In Python keras_vit.from_pretrained takes that, and keras_vit.save_pretrained writes a "
    "folder that says it."
)


def in_flags(text, command):
    """An error of the library with the flags of a command for the arguments that they set.

    Args:
        text: str, such as "precision='int8_static' needs calibration=...".
        command: `click.Command`.

    Returns:
        str, such as "--precision int8_static needs --calibration".
    """
    flags = {x.name: max(x.opts, key=len) for x in command.params if x.opts[0].startswith("-")}
    flags |= {name: flags[ours] for name, ours in RENAMED.items() if ours in flags}
    text = plain(text)
    for name, flag in flags.items():
        text = re.sub(rf", {name}=None\b", "", text)
        text = re.sub(rf"\b(?<!-){name}=None\b", f"no {flag}", text)
        text = re.sub(
            rf"\b(?<!-){name}=({VALUE})", lambda x, y=flag: f"{y} {_typed(x[1])}".strip(), text
        )
        text = re.sub(rf"\b(?<!-){name}(?==(?:\W|$)| must\b| is for\b)", flag, text)
    return text + IN_PYTHON * bool(re.search(r"\bpass \w+=", text))


def plain(text):
    """An error of the library without what only its callers in Python can do."""
    for before, after in PHRASES:
        text = text.replace(before, after)
    return text


def _typed(value):
    """A value of Python as one types it."""
    if value == "...":
        return ""
    numbers = re.fullmatch(r"\((\d+), (\d+)\)", value)  # a size
    if numbers:
        return f"{numbers[1]}x{numbers[2]}"
    quoted = re.fullmatch(r"<\S+: '([^']*)'>|'([^']*)'|\"([^\"]*)\"", value)
    return next((x for x in quoted.groups() if x is not None), "") if quoted else value
