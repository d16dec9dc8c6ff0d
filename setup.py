"""What pyproject.toml cannot say: where packages lie, and absolute links for PyPI.

The folder `training` is the package `keras_vit.training` of an installed copy. The address of the
repository stands in pyproject.toml alone; while it is "" there, links stay as they are.
"""

import re
import tomllib
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
PICTURES = (".webp", ".png", ".jpg", ".gif", ".svg")


def text(name):
    return (HERE / name).read_text(encoding="utf-8")


def packages():
    training = [f"keras_vit.{name}" for name in find_packages(HERE, include=["training*"])]
    return [*find_packages(HERE, include=["keras_vit*"]), *training]


def readme(repository, tag):
    """README.md with its links to files made links to those of the tag."""

    def absolute(match):
        before, target = match.groups()
        view = "raw" if Path(target.partition("#")[0]).suffix in PICTURES else "blob"
        return f"{before}{repository}/{view}/{tag}/{target}"

    # [text](target), and src="target" or href="target" of HTML; neither addresses nor anchors
    links = r"""(\]\(|\b(?:src|href)=["'])(?![a-z]+:|#)([^)\s"']+)"""
    return re.sub(links, absolute, text("README.md")) if repository else text("README.md")


def urls(repository, tag):
    if not repository:
        return {}
    return {
        "Source": repository,
        "Changelog": f"{repository}/blob/{tag}/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }


def main():
    repository = tomllib.loads(text("pyproject.toml"))["tool"]["keras_vit"]["repository"]
    version = re.search(r'^__version__ = "(.+)"$', text("keras_vit/version.py"), re.MULTILINE)[1]
    setup(
        packages=packages(),
        package_dir={"keras_vit.training": "training"},
        version=version,
        long_description=readme(repository, f"v{version}"),
        long_description_content_type="text/markdown",
        project_urls=urls(repository, f"v{version}"),
    )


if __name__ == "__main__":
    main()
