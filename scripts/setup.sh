#!/usr/bin/env bash
# Builds wmic, with cargo's profile $cargo_profile (release by default) and its options cargo_targets, and makes sure
# that a GPU adapter is found. On Debian and Ubuntu it installs software Vulkan if there is none; for anything else that
# is missing it prints what to install. Sourced by scripts/demo and scripts/test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "$1" >&2
    exit 2
}

export PATH="$PATH:$HOME/.cargo/bin"
command -v cargo >/dev/null || fail "Rust is missing. Install it from https://rustup.rs, then run this again."
command -v cc >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null || [ "$(uname -s)" != Linux ] ||
    fail "A C linker is missing. Install one (Debian/Ubuntu: apt install build-essential), then run this again."

cargo_profile=${cargo_profile:-release}
cargo build --profile "$cargo_profile" --locked ${cargo_targets[@]+"${cargo_targets[@]}"}

if ! "target/$cargo_profile/wmic" devices >/dev/null 2>&1; then
    if [ "$(uname -s)" = Linux ] && command -v apt-get >/dev/null; then
        echo "No Vulkan adapter found: installing software Vulkan (libvulkan1, mesa-vulkan-drivers) ..." >&2
        root=()
        if [ "$(id -u)" -ne 0 ]; then
            command -v sudo >/dev/null || fail "sudo is missing; as root: apt install libvulkan1 mesa-vulkan-drivers"
            root=(sudo)
        fi
        "${root[@]}" apt-get update -qq
        "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends libvulkan1 mesa-vulkan-drivers >/dev/null
    fi
    # It prints what to install itself.
    "target/$cargo_profile/wmic" devices >/dev/null || exit 2
fi
