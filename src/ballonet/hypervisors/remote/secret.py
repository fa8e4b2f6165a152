"""Passwords: from the environment, or from a file that nobody else can read. Never from the configuration or the command line."""

import os
import stat
from pathlib import Path

from ballonet.model.settings import SettingsError


def secret(variable: str, path: str, key: str) -> str:
    """The password.

    Args:
        variable: of the environment; comes first.
        path: of the file; its first line counts.
        key: of the configuration that names the file, for errors.

    Raises:
        SettingsError: there is none, or others can read it.
    """
    if value := os.environ.get(variable):
        return value
    if not path:
        raise SettingsError(f"no password: set {key} to a file with mode 0600, or the variable {variable}")
    try:
        mode = Path(path).stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SettingsError(f"{key}: {path} can be read by others (mode {stat.S_IMODE(mode):04o}); chmod 600 {path}")
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{key}: cannot read {path}: {error}") from error
    if not lines or not lines[0]:
        raise SettingsError(f"{key}: {path} is empty")
    return lines[0]
