#!/usr/bin/env bash
# The libraries of this folder, as they were published; the versions stand here and in the file names.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
HTMX=4.0.1 BASECOAT=1.0.2 INTER=5.3.0
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
npm pack --silent "htmx.org@$HTMX" "basecoat-css@$BASECOAT" "@fontsource-variable/inter@$INTER" >/dev/null
for file in *.tgz; do mkdir "${file%.tgz}" && tar xzf "$file" -C "${file%.tgz}" --strip-components=1; done
rm -f "$here"/*.js "$here"/*.css "$here"/*.woff2 "$here"/*.LICENSE
cp "htmx.org-$HTMX/dist/htmx.min.js" "$here/htmx-$HTMX.min.js"
cp "htmx.org-$HTMX/dist/ext/hx-sse.min.js" "$here/hx-sse-$HTMX.min.js"
cp "htmx.org-$HTMX/LICENSE" "$here/htmx.LICENSE"
cp "basecoat-css-$BASECOAT/dist/basecoat.cdn.min.css" "$here/basecoat-$BASECOAT.min.css"
cp "basecoat-css-$BASECOAT/LICENSE.md" "$here/basecoat.LICENSE"
cp "fontsource-variable-inter-$INTER/files/inter-latin-wght-normal.woff2" "$here/inter-$INTER.woff2"
cp "fontsource-variable-inter-$INTER/LICENSE" "$here/inter.LICENSE"
