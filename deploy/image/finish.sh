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

# Nothing at run time reads the tests of packages, or the sources of their libraries. Stripe imports the types of its
# parameters for type checkers alone (6 MB), the console draws PNG, for which Pillow needs no other format (7 MB), and
# Pygments colours Python alone (4 MB).
find "$packages" -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +
rm -rf "$packages/stripe/params"
find "$packages/pygments/lexers" -name '*.py' ! -name __init__.py ! -name _mapping.py ! -name python.py -delete
for format in avif webp imagingcms imagingtk; do rm -f "$packages/PIL/_$format".*; done
for library in avif webp webpmux webpdemux sharpyuv lcms2; do rm -f "$packages/pillow.libs/lib$library"-*; done
find "$app" -name '*.so*' -type f -exec strip --strip-unneeded {} +
find "$packages" \( -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.pyi' \) -type f -delete
"$app/bin/python" deploy/image/image_sbom.py /base-packages > "$app/sbom.cdx.json"
# The byte code of Pygments and of most of Stripe's objects is left out (3 MB): they are rarely imported.
for tree in "$app" "$simulator"; do
  "$app/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash -x '/(pygments|stripe/(?!v2/)[a-z_]+)/' \
    -s "$tree" -p /app "$tree/lib"
done
