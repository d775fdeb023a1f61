"""Where one machine's Kedge keeps its things."""

from __future__ import annotations

from pathlib import Path

from kedge.settings.local import LocalSettings, default_data_dir, runtime_dir


def test_the_environment_fills_in_what_the_command_line_leaves_out() -> None:
    environ = {"KEDGE_HOME": "/srv/kedge", "CLUSTER_DOMAIN": "corp", "TMPDIR": "/scratch"}
    settings = LocalSettings.from_environment(environ, port=9000)
    assert settings.data_dir == Path("/srv/kedge")
    assert (settings.port, settings.api_port, settings.cluster_domain) == (9000, 8081, "corp")
    assert settings.api_socket.parent.parent == Path("/scratch")
    assert LocalSettings.from_environment(environ, data_dir=Path("/a")).data_dir == Path("/a")


def test_without_a_setting_the_data_is_in_the_home_folder() -> None:
    assert default_data_dir({}) == Path.home() / ".kedge"


def test_the_runtime_folder_is_short_and_told_apart_by_data_folder() -> None:
    one, two = runtime_dir(Path("/a" * 200), Path("/tmp")), runtime_dir(Path("/b"), Path("/tmp"))
    assert one != two
    assert len(str(one / "admin.sock")) < 60


def test_a_round_trip_through_json(tmp_path: Path) -> None:
    for settings in (LocalSettings(tmp_path), LocalSettings(tmp_path, temp_dir=tmp_path, port=1)):
        assert LocalSettings.from_json(settings.to_json()) == settings
