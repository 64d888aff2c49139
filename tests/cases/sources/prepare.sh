#!/bin/sh
# Makes the repositories that the case installs from, in the folder given as argument.
set -eu
cd "$1"
export GIT_AUTHOR_NAME=Test GIT_AUTHOR_EMAIL=test@example.com GIT_COMMITTER_NAME=Test GIT_COMMITTER_EMAIL=test@example.com
export GIT_AUTHOR_DATE=2026-01-02T03:04:05Z GIT_COMMITTER_DATE=2026-01-02T03:04:05Z

repository() {
    git -C "$1" init --quiet --initial-branch=main
    git -C "$1" add .
    git -C "$1" commit --quiet -m First
}

mv setuptools-versioned/gitignore setuptools-versioned/.gitignore
for project in hatch-versioned setuptools-versioned; do
    repository $project
    git -C $project tag v1.2.3
    # A commit more and a dirty tree: the version is a development version with the commit and the date in it.
    git -C $project commit --quiet --allow-empty -m Second
    echo "edited = True" >"$project/$(echo $project | tr - _)/__init__.py"
done

repository inner
repository outer
git -C outer -c protocol.file.allow=always submodule --quiet add "file://$PWD/inner" src/outer/inner
git -C outer commit --quiet -m Submodule

repository repository
