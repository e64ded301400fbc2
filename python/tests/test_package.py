"""What is in the wheel."""

import importlib.metadata

import wmic


def test_the_wheel_has_the_licences():
    files = [file for file in importlib.metadata.files("wmic") if "licenses" in file.parts]
    assert {file.name for file in files} == {"LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY-NOTICES.txt"}
    assert all(len(file.read_text()) > 1000 for file in files)


def test_the_version_is_that_of_the_command(command):
    assert wmic.__version__ == importlib.metadata.version("wmic")
    assert command("--version").split() == ["wmic", wmic.__version__]
