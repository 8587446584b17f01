#!/bin/sh
# A shell that forks a thousand times: subshells, pipelines, commands, background jobs, and a signal.
i=0 sum=0
while [ $i -lt $((1000 * ${1:-1})) ]; do
    i=$((i + 1))
    (exit $((i % 100)))
    sum=$((sum + $?))
done
echo "$sum"
i=0
while [ $i -lt 100 ]; do
    i=$((i + 1))
    echo "$i $(echo $i | tr 0-9 a-j)"
done
for i in 1 2 3 4 5 6 7 8 9 10; do (exit "$i") & done
wait
{ sh -c 'kill -KILL $$'; } 2>/dev/null # some shells name the process that was killed
echo "exit $?"
