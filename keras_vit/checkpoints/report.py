"""The report of what became of every tensor of a checkpoint and every weight of the model."""

from dataclasses import dataclass, field

from keras_vit.table import Table
from keras_vit.terminal import printable


@dataclass
class LoadReport:
    """Prints as a table. Every tensor and every weight is listed.

    Attributes:
        source: str, what was loaded.
        names: str, whose names the tensors had.
        used: list of (tensor names, weight paths).
        dropped: dict of tensor name to the reason why it was left out.
        fresh: dict of weight path to the reason why it kept its initial values.
        resampled: list of weight paths that were resampled to another size.
        adapted: dict of weight path to (C, C'), the input channels of its tensor and of the weight.
        unread: list of fields of the configuration that are unknown.
        notes: list of str: what was looked through or stripped to find the model, and what was
            decided that neither the source nor the caller says.
    """

    source: str
    names: str
    used: list = field(default_factory=list)
    dropped: dict = field(default_factory=dict)
    fresh: dict = field(default_factory=dict)
    resampled: list = field(default_factory=list)
    adapted: dict = field(default_factory=dict)
    unread: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    @property
    def table(self):
        """`Table` of (what happened, tensor, weight or reason)."""
        rows = []
        for sources, targets in self.used:
            kind = "resampled" if set(targets) & set(self.resampled) else "loaded"
            kind = "adapted" if set(targets) & set(self.adapted) else kind
            rows.append((kind, " + ".join(sources), " + ".join(targets)))
        rows += [("dropped", name, reason) for name, reason in self.dropped.items()]
        rows += [("fresh", reason, path) for path, reason in self.fresh.items()]
        return Table(("", "tensor", "weight"), rows)

    def summary(self):
        """One line, then one for each reason why something was dropped or newly initialised."""
        tensors = sum(len(sources) for sources, _ in self.used)
        weights = sum(len(targets) for _, targets in self.used)
        lines = [f"{self.source}: {tensors} tensors ({self.names}) fill {weights} weights"]
        for what, found in (("dropped", self.dropped), ("initialised anew", self.fresh)):
            for reason in dict.fromkeys(found.values()):
                names = [name for name in found if found[name] == reason]
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                lines.append(f"  {what}: {', '.join(names[:3])}{more} ({reason})")
        if self.resampled:
            lines.append(f"  resampled: {', '.join(self.resampled)}")
        for path, (old, new) in self.adapted.items():
            way = ", as timm does" if old == 3 else ""
            lines.append(f"  adapted from {old} to {new} channels{way}: {path}")
        lines += [f"  {note}" for note in self.notes]
        if self.unread:
            lines.append(f"  unknown fields of config.json: {', '.join(self.unread)}")
        return "\n".join(map(printable, lines))  # names are those of the file

    def __str__(self):
        return f"{self.summary()}\n{self.table}"
