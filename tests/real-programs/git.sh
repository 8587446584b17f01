#!/bin/sh
# git: commits, a merge, a conflict, repacking, a clone through its own child processes.
export HOME="$PWD" GIT_CONFIG_NOSYSTEM=1 GIT_PAGER=cat GIT_TERMINAL_PROMPT=0
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_AUTHOR_DATE='1700000000 +0000'
export GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@example.org GIT_COMMITTER_DATE='1700000000 +0000'
git init --quiet --initial-branch=main work && cd work || exit 1
git config gc.auto 0
i=0
while [ $i -lt $((10 * ${1:-1})) ]; do
    i=$((i + 1))
    seq $i $((i + 500)) >"file $i"
    seq 1 $((i * 3)) >common
    git add --all && git commit --quiet --message "commit $i"
done
git log --stat --patch | cksum
git checkout --quiet -b side HEAD~3 && echo side >common && git commit --quiet --all --message side
git checkout --quiet main && git merge side
echo "exit $?"
git status --short
git merge --abort
git diff HEAD~4 --stat
git repack -a -d --quiet --window=20 && git fsck --full --strict
echo "exit $?"
cd .. && git clone --quiet --no-local work copy && git -C copy rev-parse HEAD
git -C copy grep -c 49 HEAD -- 'file 1' common
git -C copy blame common | cksum
git -C copy no-such-command
echo "exit $?"
