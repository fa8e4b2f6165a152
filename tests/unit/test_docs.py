from pathlib import Path

from ballonet.daemon.config import GuestConfig, HostConfig, LoopConfig, QemuConfig

ROOT = Path(__file__).parents[2]


def test_reference_names_every_key() -> None:
    """Every key of the configuration is in its reference."""
    text = (ROOT / "docs/reference/config.md").read_text()
    parts = {"qemu": QemuConfig, "loop": LoopConfig, "host": HostConfig, "guest.NAME": GuestConfig}
    for part, kind in parts.items():
        for field in kind.__struct_fields__:
            assert f"`{part}.{field}`" in text
