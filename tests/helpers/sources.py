"""Sources of data in a folder, in place of a download."""


class Folder:
    """Sources in a folder, in place of a download."""

    def __init__(self, path):
        self.path = path

    def __call__(self, *paths):
        return [self.path / p for p in paths]

    def second(self, below=""):
        return self.path / "second" / below

    def other(self, name):
        return self.path / name
