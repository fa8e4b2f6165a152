"""What a guest's administrator says: /etc/ballonet-agent.conf, lines of `name = value`, all of them optional."""

from typing import Any, Dict, List

PATH = "/etc/ballonet-agent.conf"
_WORDS = {"on": True, "off": False}


class SettingsError(Exception):
    """A line that says nothing that is known. The text names it."""


class Settings:
    """What may be done in this guest."""

    def __init__(self) -> None:
        self.jvm = True
        """Return the garbage of idle HotSpot JVMs to the system."""
        self.jvm_every_s = 300.0
        """Never twice within this time, in one JVM."""
        self.jvm_busy_share = 0.2
        """Of a core: a JVM that used more recently is left alone."""
        self.jvm_idle_s = 10.0
        """For how long it must have used less."""
        self.jvm_least_bytes = 64 << 20
        """Less than this is not worth a collection."""
        self.reclaim = True
        """Free page cache through the control groups' memory.reclaim, when the host asks to make ready."""
        self.trim: List[List[str]] = []
        """Commands that have a program give memory back, run when the host asks to make ready. `trim` may come several times."""


def read(path: str = PATH) -> Settings:
    """The settings of a file; the defaults where there is none. Raises SettingsError."""
    settings = Settings()
    try:
        with open(path) as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return settings
    except OSError as error:
        raise SettingsError("%s: %s" % (path, error.strerror))
    for number, line in enumerate(lines, 1):
        words = line.split("#", 1)[0].strip()
        if words:
            _set(settings, words, "%s, line %d" % (path, number))
    return settings


def _set(settings: Settings, words: str, where: str) -> None:
    name, _, value = (word.strip() for word in words.partition("="))
    known: Dict[str, Any] = vars(settings)
    if name not in known:
        raise SettingsError("%s: no setting %r; there are %s" % (where, name, ", ".join(sorted(known))))
    if name == "trim":
        settings.trim.append(value.split())
    elif isinstance(known[name], bool):
        if value not in _WORDS:
            raise SettingsError("%s: %s is on or off, not %r" % (where, name, value))
        known[name] = _WORDS[value]
    else:
        known[name] = _number(value, type(known[name]), "%s: %s" % (where, name))


def _number(value: str, kind: Any, where: str) -> Any:
    try:
        number = kind(value)
    except ValueError:
        number = -1
    if not 0 <= number < 1e15:
        raise SettingsError("%s is a number of 0 or more, not %r" % (where, value))
    return number
