#!/bin/sh
# python3: objects, text, threads, child processes, an uncaught exception.
PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 python3 - "$((20000 * ${1:-1}))" <<'PYTHON'
import collections, ctypes, decimal, hashlib, json, os, re, subprocess, sys, threading, zlib

count = int(sys.argv[1])
records = [{"id": i, "name": "name %d" % (i * 7919 % 1000), "tags": [str(i % k) for k in range(1, 6)]} for i in range(count)]
text = json.dumps(records)
print(len(text), hashlib.sha256(text.encode()).hexdigest())
print(collections.Counter(re.findall(r"name \d\d\b", text)).most_common(5))
print(json.loads(text) == records, len(zlib.compress(text.encode(), 9)))

totals = {}
def work(number):
    totals[number] = sum(len(str(decimal.Decimal(i).sqrt())) for i in range(number, count, 97))
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print(sorted(totals.items()))

libc = ctypes.CDLL(None)
libc.strdup.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
copies = [libc.strdup(b"copy %d" % i) for i in range(1000)]
print(ctypes.string_at(copies[999]))
for copy in copies: libc.free(copy)

print(subprocess.run(["sh", "-c", "echo child; exit 5"], capture_output=True))
pid = os.fork()
if pid == 0:
    junk = [bytes(i) for i in range(1000)]
    os._exit(len(junk) % 256)
print(os.waitpid(pid, 0)[1] >> 8)
sys.stdout.flush()
raise ValueError("not caught, on purpose")
PYTHON
echo "exit $?"
{ python3 -c 'import os, signal; os.kill(os.getpid(), signal.SIGTERM)'; } 2>/dev/null # some shells name the process
echo "exit $?"
