#!/bin/sh
# Makes the base images of machines without a container registry: Debian with Python, or with Java, and nothing else.
#
#   base.sh DIRECTORY python|java [RELEASE]     writes DIRECTORY/build.tar and base.tar; needs root and mmdebstrap
#
# Ends with 75 if mmdebstrap fails, for instance because no mirror of Debian can be reached.
#
# build.tar has binutils in addition, which the build stage strips libraries with. base.tar is build.tar without the
# packages that nothing at run time needs, such as binutils and Perl. /var/lib/dpkg/status lists exactly the packages
# that are left, so a scanner for vulnerabilities reports those and no others.
set -eu
directory=$1
release=${3:-bookworm}
case $2 in
  # grpcio, rocksdict and protovalidate are linked with libstdc++.
  python) packages=python3-minimal,libpython3-stdlib,libstdc++6,ca-certificates ;;
  java) packages=openjdk-17-jre-headless ;;
  *) echo "usage: base.sh DIRECTORY python|java [RELEASE]" >&2; exit 2 ;;
esac
mkdir -p "$directory"
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
trap 'exit 130' INT TERM

# The installation of Java fails without a folder for manuals.
mmdebstrap --variant=essential --aptopt='APT::Install-Recommends "false"' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/info/*' \
  --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --dpkgopt='path-exclude=/usr/lib/*/gconv/*' \
  --essential-hook='mkdir -p "$1/usr/share/man/man1"' \
  --include="binutils,tini,$packages" \
  "$release" "$root" || exit 75
rm -rf "$root"/usr/lib/python3*/test "$root"/usr/lib/python3*/idlelib "$root"/usr/lib/python3*/lib2to3 \
  "$root"/usr/lib/python3*/pydoc_data "$root"/var/cache/* "$root"/var/log/* "$root"/var/lib/apt/lists/* "$root"/tmp/*
pack() { tar -C "$root" --numeric-owner --one-file-system -cf "$1.new" . && mv "$1.new" "$1"; }
pack "$directory/build.tar"

# Removes the files and the entry of each installed package whose name matches. Maintainer scripts are not run: those of
# essential packages refuse.
remove() {
  info=$root/var/lib/dpkg/info
  for list in "$info"/*.list; do
    package=$(basename "${list%.list}")
    echo "${package%:*}" | grep -qxE "$1" || continue
    while read -r path; do
      # /bin and /lib are links to directories, which packages list as directories.
      if [ ! -d "$root$path" ]; then rm -f "$root$path"; fi
    done < "$list"
    rm -f "$info/$package".*
    awk -v name="${package%:*}" 'BEGIN { RS = ""; ORS = "\n\n" } $1 != "Package:" || $2 != name' \
      "$root/var/lib/dpkg/status" > "$root/var/lib/dpkg/status.new"
    mv "$root/var/lib/dpkg/status.new" "$root/var/lib/dpkg/status"
  done
}
remove 'binutils.*|libbinutils|libctf.*|libgprofng.*|libjansson.*'
remove 'perl.*|libperl.*|libgdbm.*|usrmerge|lib[a-z-]*-perl|dpkg|tar|debconf|libdebconfclient0|adduser'
remove 'e2fsprogs|libext2fs.*|logsave|mount|util-linux.*|libmount1|libblkid1|libsmartcols1|login|passwd|libpam.*|libaudit.*'
remove 'libsystemd0|libudev1|libgcrypt20|libgpg-error0|sysvinit-utils|init-system-helpers|ncurses-bin|bsdutils|hostname'
# Only Python's modules for NIS and Berkeley DB need these.
remove 'libnsl2|libtirpc.*|libgssapi-krb5-2|libkrb5.*|libk5crypto3|libkeyutils1|libcom-err2|libdb5.3'
rm -rf "$root"/usr/share/perl* "$root"/usr/lib/*/perl* "$root"/usr/share/debconf "$root"/usr/share/lintian \
  "$root"/usr/share/bash-completion "$root"/usr/share/i18n "$root"/usr/bin/tini-static "$root"/var/lib/apt \
  "$root"/var/lib/dpkg/info "$root"/var/lib/dpkg/*-old "$root"/var/cache/* "$root"/var/log/*
find "$root/usr" -depth -type d -empty -delete
pack "$directory/base.tar"
