#!/bin/sh
# The last step of the image's build: finish.sh APP SIMULATOR, run in /source.
#
# Moves the simulated provider and the development stack out of APP into SIMULATOR, which has the same layout; strips
# the libraries; writes the SBOM; compiles byte code, because the root file system is read-only at run time.
set -eu
app=$1
simulator=$2
packages=$(echo "$app"/lib/python3.*/site-packages)
runtime=$packages/groupbuy_settlement/_runtime

mkdir -p "$simulator/${runtime#"$app"/}"
mv "$runtime/simulators" "$runtime/devstack" "$simulator/${runtime#"$app"/}"
rm -rf "$runtime/ops/demo"

# Nothing at run time reads the tests of packages, or the sources of their libraries.
find "$packages" -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +
find "$app" -name '*.so*' -type f -exec strip --strip-unneeded {} +
find "$packages" \( -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.pyi' \) -type f -delete
"$app/bin/python" deploy/image/image_sbom.py /base-packages > "$app/sbom.cdx.json"
# 11 MB of byte code are left out: the types of Stripe's parameters and Pygments are rarely imported.
for tree in "$app" "$simulator"; do
  "$app/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash -x '/(stripe/params|pygments)/' \
    -s "$tree" -p /app "$tree/lib"
done
