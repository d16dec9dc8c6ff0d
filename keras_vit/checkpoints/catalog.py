"""Known checkpoints."""


def catalog():
    return {}


def nearest(name):
    return []
