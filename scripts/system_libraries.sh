#!/bin/sh
# Installs the system libraries the packages need, where that is permitted; else names them. Never fails the set-up:
# the twin also runs without EGL, on PyBullet's own renderer. Chromium is for the tests of the pendant's page.
set -u
packages="libusb-1.0-0 libegl1 libgles2 libgl1 libglib2.0-0 libgl1-mesa-dri chromium"
command -v dpkg-query >/dev/null 2>&1 || {
    echo "This is no Debian or Ubuntu: install what corresponds to: $packages"
    exit 0
}
missing=""
for package in $packages; do
    state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    # Newer releases carry the same library under a name with a suffix.
    other=$(dpkg-query -W -f='${db:Status-Status}' "${package}t64" 2>/dev/null || true)
    [ "$state" = installed ] || [ "$other" = installed ] || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ]; then
    run=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    run="sudo"
else
    echo "System libraries are missing. Install them, or go on without depth pictures from the graphics library:"
    echo "    sudo apt-get install$missing"
    exit 0
fi
echo "installing system libraries:$missing"
{ $run apt-get update -qq && DEBIAN_FRONTEND=noninteractive $run apt-get install -y -qq $missing; } >/dev/null 2>&1 ||
    echo "could not install$missing: install them by hand (sudo apt-get install$missing)"
exit 0
