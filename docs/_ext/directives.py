"""What pages say beyond Markdown: tables of the library's own data, and links to its source.

```{variants} ViT
```                       the variants of a family and the arguments that each sets
```{checkpoints}
```                       the catalogue, as a table that can be searched
{source}`training/recipes/digits.toml`
"""

from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective, SphinxRole

ROOT = Path(__file__).parents[2]


class Variants(SphinxDirective):
    """A row for every variant of the family of that title; in the API links lead to it."""

    required_arguments = 1

    def run(self):
        from keras_vit.models.registry import FAMILIES, TASKS

        (family,) = [x for x in (FAMILIES | TASKS).values() if x.title == self.arguments[0]]
        rows = []
        for name, build in family.variants.items():
            target = f"keras_vit.{name}"
            code = nodes.literal(text=name, ids=[target])
            if self.env.docname.startswith("api/"):
                self.env.domains["py"].note_object(target, "function", target, location=code)
            said = build.__doc__.partition("\n\n")[0].rstrip(".")
            row = ", ".join(f"{key}={value!r}" for key, value in family.rows[name].items())
            rows.append([code, said, nodes.literal(text=row)])
        return [table(["variant", "", "what it sets"], rows, classes=["variants"])]


class Checkpoints(SphinxDirective):
    """Every checkpoint of the catalogue, in a table with a field to search in it."""

    def run(self):
        import keras_vit

        found = keras_vit.list_checkpoints()
        rows = [[nodes.literal(text=row[0]), *row[1:]] for row in found]
        return [table(list(found.header), rows, classes=["searchable"])]


class Source(SphinxRole):
    """The name of a file of the repository, linked where the repository has an address."""

    def run(self):
        code = nodes.literal(text=self.text)
        if not (ROOT / self.text).exists():
            message = self.inliner.reporter.warning(
                f"There is no such file in the repository: {self.text}", line=self.lineno
            )
            return [code], [message]
        if not self.config.repository:
            return [code], []
        address = f"{self.config.repository.rstrip('/')}/blob/main/{self.text}"
        return [nodes.reference("", "", code, refuri=address)], []


def table(header, rows, classes=()):
    """A table of docutils; cells are text or nodes."""
    group = nodes.tgroup(cols=len(header))
    group += [nodes.colspec(colwidth=1) for _ in header]
    head, body = nodes.thead(), nodes.tbody()
    for part, lines in ((head, [header]), (body, rows)):
        for line in lines:
            row = nodes.row()
            for cell in line:
                content = nodes.Text(cell) if isinstance(cell, str) else cell
                row += nodes.entry("", nodes.paragraph("", "", content))
            part += row
    group += [head, body]
    return nodes.table("", group, classes=list(classes))


def setup(app):
    app.add_directive("variants", Variants)
    app.add_directive("checkpoints", Checkpoints)
    app.add_role("source", Source())
    app.add_js_file("search_table.js")
    return {"parallel_read_safe": True}
