"""What is in the wheel."""

import importlib.metadata


def test_the_wheel_has_the_licences():
    files = [file for file in importlib.metadata.files("wmic") if "licenses" in file.parts]
    assert {file.name for file in files} == {"LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY-NOTICES.txt"}
    assert all(len(file.read_text()) > 1000 for file in files)
