#!/usr/bin/env bash
# What memos does, on a small handbook and a year of chats. Everything happens in ./demo, which is made anew.
set -euo pipefail
cd "$(dirname "$0")/.."

rm -rf demo
mkdir demo
cp -R bundles/corpus/handbook bundles/corpus/chats demo/
cd demo
export MEMOS_HOME="$PWD/home"

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\033[1m' plain=$'\033[0m'
fi

say() {
    printf '\n# %s\n' "$@"
}

# Prints a command as one would type it, then runs it.
run() {
    local shown='' word
    for word in "$@"; do
        case $word in
            *[!A-Za-z0-9_./=-]*) shown+=" \"$word\"" ;;
            *) shown+=" $word" ;;
        esac
    done
    printf '\n%s$%s%s\n' "$bold" "$shown" "$plain"
    "$@"
}

say "A cube is a folder that holds memory. Make one of a handbook (11 files), and one of two chats."
run memos ingest handbook.cube handbook
run memos ingest chats.cube chats

say "Ask. Each answer says where it stands: file and line, or who said it and when."
run memos query handbook.cube "who may roll back a release?" -k 3
run memos query chats.cube "where is the key for the water?" -k 3 --explain

say "Ask both at once, and get a context with citations for a language model, in at most 150 tokens."
run memos query handbook.cube --with chats.cube "when do we meet?" --budget 150

say "Somebody edits one line of one file. Only that line is read into the cube anew; the old one is superseded."
printf '\n%s$ %s%s\n' "$bold" 'sed "s/under four minutes/under three minutes/" handbook/release-process.md  (in place)' "$plain"
sed 's/under four minutes/under three minutes/' handbook/release-process.md > edited.md
mv edited.md handbook/release-process.md
run memos ingest handbook.cube handbook --reason "faster rollbacks"
run memos diff handbook.cube 2

say "Every change is a version, with who, when and why. Is every byte what it should be?"
run memos log handbook.cube
run memos audit handbook.cube --deep

say "The edit was wrong after all. Going back is one command, and nothing is lost from the history."
run memos rollback handbook.cube 2 --reason "it is four minutes"
run memos query handbook.cube "how long does going back take?" -k 1

say "A small model that comes with memos answers from what is found, and says so when it is not there."
cat > people.md <<'END'
# Ana Corvath
- home town: Lindau
- locker code: KX-4711
- allergy: peanuts

# Diary
- Ben Oster moved to Kinsale last spring.
- The dog of Ben Oster is called Pepper.
- The deadline of Project Heron is 14 March 2027.
END
run cat people.md
run memos ingest people.cube people.md
run memos query people.cube "where does Ben Oster live?" --answer
run memos query people.cube "What is Ana Corvath's locker code?" --answer
run memos query people.cube "What is Ben Oster's shoe size?" --answer

say "What a model makes of a text can be kept, so that it need not read it again; each file is proved against the text."
run memos convert people.cube
run memos query people.cube "When is the deadline of Project Heron?" --answer --explain

cat <<'END'

# Try next, from the folder of this project:
#
#   source .venv/bin/activate
#   memos ingest notes.cube ~/notes                       your own files
#   memos query notes.cube "what did I want to do next?"
#   memos query bundles/chats.cube "what is Pepper allergic to?" --answer
#   memos query bundles/codebase.cube "how are old versions swept?"
#   memos --help
#
# The chats of this demo: docs/tutorial/your-chats.md. All formats: docs/how-to/ingest-formats.md.
END
