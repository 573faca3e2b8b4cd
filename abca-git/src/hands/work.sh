# Runs in the sandbox, in the work tree's root: $1 is `snapshot` or `safety_net`, $2 the task branch, $3 a message.
# Answers `key=value` lines; on failure `error=<step>`, and git's words on stderr.
set -u
mode=$1 branch=$2 message=${3:-}
unset GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_CONFIG_PARAMETERS GIT_CONFIG_COUNT
unset GIT_COMMON_DIR GIT_NAMESPACE GIT_SHALLOW_FILE CDPATH
top=$(pwd -P)
export GIT_DIR="$top/.git" GIT_WORK_TREE="$top" GIT_LITERAL_PATHSPECS=1
export GIT_AUTHOR_NAME=bgagent GIT_AUTHOR_EMAIL=bgagent@noreply.github.com
export GIT_COMMITTER_NAME=bgagent GIT_COMMITTER_EMAIL=bgagent@noreply.github.com

say() { printf '%s=%s\n' "$1" "$2"; }
fail() { say error "$1"; exit 1; }
g() {
  git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.untrackedCache=false -c core.excludesFile=/dev/null \
    -c core.sparseCheckout=false -c core.safecrlf=false -c safe.directory='*' -c gc.auto=0 -c maintenance.auto=false \
    -c core.bigFileThreshold=32m -c pack.compression=0 -c commit.gpgSign=false -c submodule.recurse=false -c advice.addEmbeddedRepo=false \
    -c filter.lfs.clean= -c filter.lfs.process= -c filter.lfs.smudge= -c filter.lfs.required=false "$@"
}
commit_of() { g rev-parse --verify --quiet "$1^{commit}" 2>/dev/null; }

# A repository, even if the agent removed or broke it. The gentlest repair that helps.
usable() { g rev-parse --git-dir >/dev/null 2>&1; }
anew() { (unset GIT_DIR GIT_WORK_TREE; g init --quiet --template= --initial-branch="$branch" .) >&2; }
if ! usable; then
  say repaired 1
  # Never through a link: it may lead out of the work tree.
  [ ! -L .git ] || rm -f .git
  anew
  usable || { mv -f .git/config .git/config.broken 2>/dev/null; rm -f .git/HEAD; anew; }
  usable || { rm -rf .git; anew; }
  usable || fail init
  g config user.name bgagent
  g config user.email bgagent@noreply.github.com
fi
gitdir=$(g rev-parse --absolute-git-dir) || fail rev-parse
index=$(g rev-parse --git-path index) || fail rev-parse

tmp=$(mktemp -d) || fail mktemp
trap 'rm -rf "$tmp"' EXIT
export GIT_INDEX_FILE="$tmp/index"

# Stages everything in the index $GIT_INDEX_FILE, which holds some beginning. Sets $tree.
stage() {
  incomplete=
  g add --all --ignore-errors -- . >"$tmp/add" 2>&1 || incomplete=1
  # Repositories inside the work tree: their files, not a link to a commit that nobody else has.
  g ls-files --stage -z | grep -z '^160000' | cut -z -f2- >"$tmp/nested"
  [ -z "$incomplete" ] || g ls-files --others --exclude-standard --directory -z | grep -z '/$' >>"$tmp/nested"
  if [ -s "$tmp/nested" ]; then
    export head
    xargs -0 -n 1 sh -c '
      d=${1%/}
      g() { git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c safe.directory="*" "$@"; }
      if [ -n "$head" ] && g ls-tree "$head" -- "$d" 2>/dev/null | grep -q "^160000"; then exit 0; fi
      if g config -f .gitmodules --get-regexp "\.path$" 2>/dev/null | sed "s/^[^ ]* //" | grep -Fqx -- "$d"; then exit 0; fi
      g update-index --force-remove -- "$d" 2>/dev/null
      cd -- "./$d" 2>/dev/null || exit 0
      (unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE; g ls-files -z --cached --others --exclude-standard) |
        g update-index --add --remove -z --stdin
    ' nested <"$tmp/nested" >&2
    incomplete=
    g add --all --ignore-errors --dry-run -- . >/dev/null 2>&1 || [ -z "$(g ls-files --others --exclude-standard | head -c 1)" ] || incomplete=1
  fi
  tree=$(g write-tree 2>"$tmp/err") && return 0
  cat "$tmp/add" "$tmp/err" >&2
  return 1
}

# Three beginnings, from the cheapest (the agent's index knows what did not change) to none at all.
whole_tree() {
  cp -p "$index" "$tmp/index" 2>/dev/null && stage && return 0
  rm -f "$tmp/index" "$tmp/index.lock"
  [ -n "$head" ] && g read-tree "$head" && stage && return 0
  rm -f "$tmp/index" "$tmp/index.lock"
  stage
}

head=$(commit_of HEAD) || head=
[ -z "$(g ls-files --unmerged 2>/dev/null | head -c 1)" ] || :
unmerged=$(GIT_INDEX_FILE="$index" g ls-files --unmerged 2>/dev/null | head -c 1)
whole_tree || fail write-tree
old=$(commit_of refs/abca/snapshot) || old=
if [ -n "$old" ] && [ "$(g show -s --format='%T %P' "$old" --)" = "$tree $head" ]; then
  snapshot=$old
else
  snapshot=$(g commit-tree "$tree" ${head:+-p "$head"} -m 'abca: snapshot') || fail commit-tree
  rm -f "$gitdir/refs/abca/snapshot.lock"
  g update-ref refs/abca/snapshot "$snapshot" || fail update-ref
fi
say snapshot "$snapshot"
say head "$head"
say incomplete "$incomplete"
say unmerged "${unmerged:+1}"
[ "$mode" = safety_net ] || exit 0

# The session is over: nobody holds these locks.
rm -f "$index.lock" "$gitdir/HEAD.lock" "$gitdir/refs/heads/$branch.lock"
if [ -d "$gitdir/rebase-merge" ] || [ -d "$gitdir/rebase-apply" ]; then
  say rebase undone
  (unset GIT_INDEX_FILE
   g rebase --abort || g am --abort || g rebase --quit || rm -rf "$gitdir/rebase-merge" "$gitdir/rebase-apply") >&2
  head=$(commit_of HEAD) || head=
  whole_tree || fail write-tree
fi

set --
[ -z "$head" ] || set -- -p "$head"
merging=
if [ -n "$head" ] && [ -f "$gitdir/MERGE_HEAD" ]; then
  while read -r other; do
    case $other in *[!0-9a-f]*|'') ;; *) commit_of "$other" >/dev/null && set -- "$@" -p "$other" && merging=1 ;; esac
  done <"$gitdir/MERGE_HEAD"
fi
saved=
empty=$(g hash-object -t tree /dev/null)
before=$empty
[ -z "$head" ] || before=$(g rev-parse "$head^{tree}")
if [ "$tree" != "$before" ] || [ -n "$merging" ]; then
  saved=$(printf '%s\n' "$message" | g commit-tree "$tree" "$@") || fail commit-tree
fi
say saved "$saved"
final=${saved:-$head}
tip=$(commit_of "refs/heads/$branch") || tip=
at=$(g symbolic-ref --quiet HEAD) || at=
behind=
if [ -n "$tip" ] && [ "$at" != "refs/heads/$branch" ] && [ "$tip" != "$final" ]; then
  if [ -n "$final" ] && [ -z "$saved" ] && g merge-base --is-ancestor "$final" "$tip"; then
    behind=1 final=$tip
  elif [ -z "$final" ] || ! g merge-base --is-ancestor "$tip" "$final"; then
    g update-ref refs/abca/displaced "$tip" || fail update-ref
    say displaced "$tip"
  fi
fi
if [ -n "$final" ]; then
  # A broken ref of that name is in the way.
  g update-ref "refs/heads/$branch" "$final" 2>"$tmp/err" ||
    { rm -rf "$gitdir/refs/heads/$branch"; g update-ref "refs/heads/$branch" "$final" || fail update-ref; }
fi
g symbolic-ref HEAD "refs/heads/$branch" || fail symbolic-ref
rm -f "$gitdir/MERGE_HEAD" "$gitdir/MERGE_MSG" "$gitdir/MERGE_MODE" "$gitdir/CHERRY_PICK_HEAD" "$gitdir/REVERT_HEAD"
rm -rf "$gitdir/sequencer"
cp -p "$tmp/index" "$index" || fail index
if [ -n "$behind" ]; then
  (unset GIT_INDEX_FILE; g reset --hard --quiet "$final") >&2 || fail reset
fi
say final "$final"
