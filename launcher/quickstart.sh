#!/usr/bin/env bash
# From a fresh Debian 12 machine to a language model that has read a dictionary and writes entries of its own:
# installs, builds, takes the text from a Debian package, trains a tokenizer and a model, generates.
#
#   launcher/quickstart.sh [--out DIR] [--minutes N]
#
#   --out DIR      where text, tokenizer, model and curve go (default runs/quickstart)
#   --minutes N    how long the model trains, about (default 2)
#
# What is done already is skipped; what Ctrl-C interrupted goes on where it stopped when run again.
# Exit code: 0 done, 1 failed, 2 bad argument, 3 something is missing, 75 interrupted with the state saved.
set -euo pipefail
called_from=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=runs/quickstart
minutes=2
while [ $# -gt 0 ]; do
  case $1 in
    --out)
      out=${2:-}
      [ -n "$out" ] || { echo "quickstart.sh: --out needs a folder" >&2; exit 2; }
      [[ $out == /* ]] || out=$called_from/$out
      shift 2
      ;;
    --minutes)
      minutes=${2:-}
      [[ $minutes =~ ^[1-9][0-9]*$ ]] || { echo "quickstart.sh: --minutes wants a whole number, not '$minutes'" >&2; exit 2; }
      shift 2
      ;;
    -h | --help)
      sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *)
      echo "quickstart.sh: unknown argument '$1'; it takes --out and --minutes" >&2
      exit 2
      ;;
  esac
done
config=launcher/configs/quickstart.toml
text=$out/text
model=$out/$minutes-minutes
mkdir -p "$out"

stage_number=0
stage_begun=$SECONDS
begin() {
  stage_number=$((stage_number + 1))
  stage_begun=$SECONDS
  printf '\n[%d/6] %s\n' $stage_number "$1"
}
end() { printf '      %s (%d s, %d s in all)\n' "$1" $((SECONDS - stage_begun)) $SECONDS; }

begin "packages"
launcher/setup.sh
end "all installed"

begin "build"
log=$out/build.log
if ! { cmake --preset release -DTROUPE_TESTS=OFF && cmake --build build --target troupe -j "$(nproc)"; } >"$log" 2>&1; then
  tail -n 40 "$log" >&2
  echo "quickstart.sh: the build failed; all of it is in $log" >&2
  exit 1
fi
end "build/troupe"

# The dictionary's package, unpacked below OUT: nothing of it is installed.
fetch_dictionary() {
  (cd "$1" && apt-get -q download dict-gcide && dpkg -x dict-gcide_*.deb .) >"$1/apt.log" 2>&1
}

begin "text: the Collaborative International Dictionary of English, Debian package dict-gcide"
if [ ! -s "$text/heldout.txt" ]; then
  rm -rf "$text.part"
  mkdir -p "$text.part"
  dictionary=/usr/share/dictd/gcide.dict.dz
  if [ ! -r $dictionary ]; then
    if ! fetch_dictionary "$text.part"; then
      launcher/setup.sh --update
      fetch_dictionary "$text.part" || { cat "$text.part/apt.log" >&2; exit 3; }
    fi
    dictionary=$text.part/usr/share/dictd/gcide.dict.dz
  fi
  # An entry begins with a line that is not indented, after a blank line; what stands before the first headword
  # with its \pronunciation\ is the licence. Form feeds part the entries. Every hundredth is held out.
  gzip -dc <"$dictionary" | LC_ALL=C awk -v folder="$text.part" '
    function finish() {
      if (entry == 0) return
      file = folder (entry % 100 == 50 ? "/heldout.txt" : "/train.txt")
      printf "%s%s", (seen[file]++ ? "\f" : ""), text > file
    }
    /^[^ \t\r]/ && blank && /\\/ { finish(); entry++; text = "" }
    { blank = /^[ \t\r]*$/ }
    blank { gap = gap "\n"; next }
    { text = text (text == "" ? "" : gap) $0 "\n"; gap = "" }
    END { finish() }'
  rm -rf "$text.part"/usr "$text.part"/*.deb "$text.part/apt.log" "$text"
  mv "$text.part" "$text"
fi
bytes() { stat -c %s "$1"; }
end "$(($(bytes "$text/train.txt") / 1000)) kB to learn from, $(($(bytes "$text/heldout.txt") / 1000)) kB held out"

begin "tokenizer"
if [ ! -s "$out/tokenizer" ]; then
  build/troupe tokenizer train --vocabulary 4096 --separator "\f" --out "$out/tokenizer.part" "$text/train.txt"
  mv "$out/tokenizer.part" "$out/tokenizer"
fi
end "$out/tokenizer"

# As many steps as this machine takes in that time, found out by a few; at most what the recipe was made for.
begin "model"
train() {
  build/troupe train $config --set "data.train=$text/train.txt" --set "data.validation=$text/heldout.txt" \
    --set "data.tokenizer=$out/tokenizer" "$@"
}
if [ ! -s "$model.steps" ]; then
  rm -rf "$out/trial"
  train --out "$out/trial" --set train.steps=8 --set train.validate_every=0 --set checkpoint.every=0 >"$out/trial.log" 2>&1 ||
    { status=$?; tail -n 5 "$out/trial.log" >&2; exit $status; }
  most=$(sed -n 's/^steps *= *\([0-9]*\).*/\1/p' $config)
  sed 's/.*"step_seconds":\([^,}]*\).*/\1/' "$out/trial/metrics.jsonl" | sort -g |
    awk -v minutes="$minutes" -v most="$most" '
      { seconds[NR] = $1 }
      END { steps = int(minutes * 60 / seconds[int((NR + 1) / 2)]); most = int(most * minutes / 2)
            print (steps > most ? most : steps < 20 ? 20 : steps) }' >"$model.steps"
  rm -rf "$out/trial" "$out/trial.log"
fi
steps=$(cat "$model.steps")
echo "      $steps steps in about $minutes minutes"
if [ "$(cat "$model.done" 2>/dev/null)" != "$steps" ]; then
  status=0
  train --out "$model" --resume --set "train.steps=$steps" || status=$?
  [ $status -ne 75 ] || echo "quickstart.sh: run the same command again and training goes on where it stopped" >&2
  [ $status -eq 0 ] || exit $status
  echo "$steps" >"$model.done"
fi
gzip_bytes=$(tr -d '\f' <"$text/heldout.txt" | gzip -9 | wc -c)
awk -v text_bytes="$(tr -d '\f' <"$text/heldout.txt" | wc -c)" -v gzip_bytes="$gzip_bytes" '
  function field(name) { return match($0, "\"" name "\":[^,}]*") ? substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3) : "" }
  { last = field("step"); loss[last] = field("loss") }
  field("validation_bits_per_byte") != "" { held_out = field("validation_bits_per_byte") }
  END {
    printf "      loss, nats a token:"
    for (i = 0; i <= 8; i++) printf " %.2f", loss[1 + int((last - 1) * i / 8)]
    printf "\n      on %d bytes of entries it never saw: %.3f bits a byte (gzip -9: %.3f)\n", \
      text_bytes, held_out, gzip_bytes * 8 / text_bytes
  }' "$model/metrics.jsonl"
end "$model/checkpoints, curve in $model/loss.svg"

begin "two entries by the model"
for prompt in "Horse \\Horse\\ (h[^o]rs), n." "Philosophy \\"; do
  build/troupe generate --checkpoint "$model" --prompt "$prompt" --max-tokens 160 --temperature 0.7 --top-k 50 --seed 1
  echo
done
end "more: build/troupe generate --checkpoint $model --prompt 'Water '"
