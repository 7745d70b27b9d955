#!/usr/bin/env bash
# Which functions on the path of a sample could panic: those of the linked firmware (link-time optimisation, all kernels)
# that observe, step or perceive reach and that call a panic. Fails where one is not explained in docs/panics.md.
# Needs an image of .ci/bare.sh. Calls through pointers are not followed; there are next to none.
set -euo pipefail
cd "$(dirname "$0")/.."
image=boards/bare/target/thumbv7em-none-eabi/release/nestling-bare
objdump=$(command -v arm-none-eabi-objdump || command -v llvm-objdump || true)
if [ -z "$objdump" ] || [ ! -e "$image" ]; then
  echo "SKIPPED: no objdump for ARM, or no image (.ci/bare.sh builds it)"; exit 0
fi

# Names without generic arguments, traits and closures; a closure that core calls counts as its function.
plain() {
  sed -E -e 's/::<[^<>]*>::\{closure/::{closure/g' -e '/^<*&?(mut )?core::/ s/^.*[< ,(](nestling::[A-Za-z0-9_:<>]*)::\{closure.*/\1/' \
    -e 's/::\{[^}]*\}//g' -e ':a' -e 's/::<[^<>]*>//; ta' -e 's/([A-Za-z0-9_])<[^<>]*>/\1/; ta' \
    -e 's/<([^<> ]+)( as [^<>]*)?>/\1/; ta' -e 's/[<>]//g' | sort -u
}

found=$("$objdump" -d -C "$image" | awk '
  /^[0-9a-f]+ <.*>:$/ { name = $0; sub(/^[0-9a-f]+ </, "", name); sub(/>:$/, "", name); next }
  match($0, /\t(b|bl|b[a-z][a-z])(\.[nw])?[ \t]+(0x)?[0-9a-f]+ <.*>/) {
    target = substr($0, RSTART, RLENGTH)
    sub(/^[^<]*</, "", target); sub(/>$/, "", target); sub(/\+0x[0-9a-f]+$/, "", target)
    if (target == name) next
    if (target ~ /core::panicking|_fail$|_failed$/) panics[name] = 1
    else called[name] = called[name] SUBSEP target
  }
  END {
    for (name in called) if (name ~ /nestling_bare::path::/) { queue[++n] = name; seen[name] = 1 }
    for (i = 1; i <= n; i++) {
      count = split(called[queue[i]], targets, SUBSEP)
      for (j = 2; j <= count; j++) if (!(targets[j] in seen)) { queue[++n] = targets[j]; seen[targets[j]] = 1 }
    }
    if (n < 20) print "nothing was reached: the names of the path have changed"
    for (i = 1; i <= n; i++) if (queue[i] in panics) print queue[i]
  }' | plain)
kept=$(sed -nE 's/^- `([^`]+)`.*/\1/p' docs/panics.md | sort -u)
new=$(comm -23 <(echo "$found") <(echo "$kept"))
gone=$(comm -13 <(echo "$found") <(echo "$kept"))
[ -z "$gone" ] || printf 'note: no longer among the functions that could panic:\n%s\n' "$gone"
if [ -n "$new" ]; then
  printf 'FAILED: could panic and is not explained in docs/panics.md:\n%s\n' "$new"; exit 1
fi
echo "$(echo "$found" | wc -l) functions on the path of a sample could panic; docs/panics.md explains each"
