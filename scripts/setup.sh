#!/usr/bin/env bash
# Makes sure that a Vulkan adapter answers and that Rust is there. On Debian and Ubuntu it installs Mesa's software Vulkan where
# there is no GPU driver; elsewhere it says what to install. Sourced by scripts/demo and scripts/test.
set -euo pipefail

have_vulkan_loader() {
    ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1'
}

have_vulkan_driver() {
    [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] && return 0
    local dir
    for dir in /usr/share/vulkan/icd.d /etc/vulkan/icd.d /usr/local/share/vulkan/icd.d /usr/local/nvidia/share/vulkan/icd.d; do
        compgen -G "$dir/*.json" >/dev/null && return 0
    done
    return 1
}

ensure_vulkan() {
    [ "$(uname -s)" = Linux ] || return 0 # Metal and DX12 come with the system.
    if have_vulkan_loader && have_vulkan_driver; then return 0; fi
    if ! command -v apt-get >/dev/null; then
        echo "No Vulkan driver found. Install your GPU's driver, or software Vulkan (Fedora: dnf install vulkan-loader mesa-vulkan-drivers; Arch: pacman -S vulkan-icd-loader vulkan-swrast)." >&2
        exit 2
    fi
    local sudo=""
    if [ "$(id -u)" -ne 0 ]; then sudo=sudo; fi
    echo "Installing software Vulkan (libvulkan1, mesa-vulkan-drivers) ..." >&2
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libvulkan1 mesa-vulkan-drivers >/dev/null
}

ensure_rust() {
    if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then export PATH="$HOME/.cargo/bin:$PATH"; fi
    if ! command -v cargo >/dev/null; then
        echo "Rust is missing. Install it from https://rustup.rs (1.88 or newer), then run this again." >&2
        exit 2
    fi
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
ensure_rust
ensure_vulkan
