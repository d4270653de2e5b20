#!/usr/bin/env bash
# Shows what a sandbox is: usage: scripts/demo.sh [FOLDER]
#
# The folder is copied first, so nothing of yours is touched. Only bin/sbx and
# ordinary tools are used; every command that runs is printed.
set -euo pipefail

source=$(cd "${1:-.}" && pwd)
here=$(cd "$(dirname "$0")/.." && pwd)
sbx=$here/bin/sbx
name=demo-$$
work=$(mktemp -d "${TMPDIR:-/tmp}/sbx-demo.XXXXXX")
folder=$work/$(basename "$source")

bold= dim= green= plain=
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' plain=$'\e[0m'
fi

title() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
note() { printf '%s   %s%s\n' "$dim" "$*" "$plain"; }
prompt() { printf '%s$ %s%s\n' "$green" "$*" "$plain"; }

# on_host and in_guest print a command line and run it.
on_host() { prompt "$*"; bash -c "$*"; }
in_guest() {
  prompt "sbx exec $name -- bash -c '$*'"
  "$sbx" exec "$name" -- bash -c "$*"
}

# expect_failure runs a command that must fail, and says so if it doesn't.
expect_failure() {
  if "$@"; then
    echo "demo: this should have failed: $*" >&2
    exit 1
  fi
}

cleanup() {
  "$sbx" rm --force "$name" >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap cleanup EXIT

copy_folder() {
  title "A fresh copy of $source"
  if git -C "$source" rev-parse --git-dir >/dev/null 2>&1; then
    git clone --quiet --no-hardlinks "$source" "$folder"
  else
    cp -a "$source" "$folder"
  fi
  note "$folder, $(find "$folder" -type f -not -path '*/.git/*' | wc -l) files"
}

# toolchain lists read-only folders that the project's build needs: a sandbox
# has no network yet, so a Go project borrows the host's compiler and modules.
toolchain() {
  if [ -f "$folder/go.mod" ] && command -v go >/dev/null; then
    (cd "$folder" && go mod download)
    local goroot gomodcache
    goroot=$(cd "$folder" && go env GOROOT) gomodcache=$(go env GOMODCACHE)
    printf '%s:ro\n' "$gomodcache"
    # A compiler that Go fetched itself lies in the module cache.
    [[ $goroot/ == "$gomodcache"/* ]] || printf '%s:ro\n' "$goroot"
    # The standard library is compiled on the host: emulated, it takes minutes.
    mkdir "$work/gocache"
    (cd "$folder" && go list -deps -f '{{if .Standard}}{{.ImportPath}}{{end}}' "$(target)" |
      CGO_ENABLED=0 GOCACHE=$work/gocache xargs go build) >&2
    printf '%s\n' "$work/gocache"
  fi
}

# target is what of a Go project is compiled: all of sbx would take an emulated
# processor many minutes.
target() {
  if [ "$source" = "$here" ]; then echo ./internal/nearest; else echo ./...; fi
}

create() {
  title "A sandbox: a virtual machine of its own, on that folder"
  local extra=()
  mapfile -t extra < <(toolchain)
  prompt "sbx create --name $name shell $folder ${extra[*]-}"
  local start=$SECONDS
  "$sbx" create --name "$name" shell "$folder" ${extra[@]+"${extra[@]}"}
  note "ready after $((SECONDS - start)) s"
}

kernels() {
  title "Its own kernel"
  on_host 'uname -sr'
  in_guest 'uname -sr; grep PRETTY_NAME /etc/os-release'
}

identity() {
  title "An ordinary user inside, who may become root: inside only"
  in_guest 'id; sudo id'
}

build() {
  title "The project, compiled inside"
  if [ -f "$folder/go.mod" ] && command -v go >/dev/null; then
    local goroot gomodcache
    goroot=$(cd "$folder" && go env GOROOT) gomodcache=$(go env GOMODCACHE)
    note "with the host's Go, shared read-only, since the sandbox has no network yet"
    in_guest "export PATH=$goroot/bin:\$PATH GOMODCACHE=$gomodcache GOCACHE=$work/gocache GOPROXY=off GOTOOLCHAIN=local CGO_ENABLED=0; go version && time go build -v $(target)"
  elif [ -f "$folder/Makefile" ]; then
    in_guest 'time make'
  else
    in_guest 'printf "int main(void){return 0;}" > hello.c && time cc -o hello hello.c && ./hello && echo compiled'
  fi
}

history() {
  [ -d "$folder/.git" ] || return 0
  title "Its history, read inside"
  in_guest 'git --no-pager log --oneline -5; git status --short | head'
}

edit() {
  title "A file edited inside is there on the host, at once"
  in_guest "echo 'written in the guest by '\$(id -un) > from-guest.txt"
  on_host "ls -l $folder/from-guest.txt; cat $folder/from-guest.txt"
  note "and the other way round"
  on_host "echo 'written on the host' > $folder/from-host.txt"
  in_guest 'cat from-host.txt'
}

outside() {
  title "A path outside the folder isn't there"
  on_host "ls -d $here/bin/sbx"
  prompt "sbx exec $name -- ls $here/bin/sbx"
  expect_failure "$sbx" exec "$name" -- ls "$here/bin/sbx"
  note "and there is no network device, so nothing to connect to:"
  in_guest 'ls /sys/class/net'
}

persist() {
  title "What is installed stays, after a stop and a start too"
  in_guest 'printf "#!/bin/sh\necho still here\n" | sudo install -m 755 /dev/stdin /usr/local/bin/greet; greet'
  prompt "sbx stop $name && sbx start $name"
  "$sbx" stop "$name"
  "$sbx" start "$name"
  in_guest 'greet; uptime'
}

remove() {
  title "Removed: the machine is gone, the folder stays"
  prompt "sbx rm --force $name && sbx ls"
  "$sbx" rm --force "$name"
  "$sbx" ls
  on_host "ls $folder | head -5"
}

copy_folder
create
kernels
identity
history
build
edit
outside
persist
remove
printf '\n%sThat is all.%s Try it on a folder of yours:  %s/bin/sbx run shell FOLDER\n' "$bold" "$plain" "$here"
