#!/usr/bin/env bash
# Installs the programs that tests use and sbx doesn't, where they are missing.
set -euo pipefail

packages=()
need() { # need PROGRAM PACKAGE
  PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || packages+=("$2")
}
need busybox busybox-static
need e2fsck e2fsprogs
need xz xz-utils
need pgrep procps
need unshare util-linux

[ ${#packages[@]} -eq 0 ] && exit 0
echo "the tests use, and will install: ${packages[*]}"
sudo=
if [ "$(id -u)" -ne 0 ]; then
  sudo=sudo
fi
get() { $sudo env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -qq "$@"; }
get install --yes --no-install-recommends "${packages[@]}" >/dev/null ||
  { get update && get install --yes --no-install-recommends "${packages[@]}" >/dev/null; }
