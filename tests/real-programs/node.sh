#!/bin/sh
# node: the JIT, worker threads, zlib and crypto on the thread pool, a child process, an exit code.
cat >main.js <<'JAVASCRIPT'
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto'), zlib = require('zlib'), { execFileSync } = require('child_process');
const count = Number(process.argv[2]);
if (!isMainThread) {
    let sum = 0;
    for (let i = 0; i < count; i++) sum = (sum + Buffer.alloc(32 + i % 100, workerData).length * i) % 1000003;
    parentPort.postMessage(sum);
} else (async () => {
    const records = Array.from({ length: count }, (_, i) => ({ id: i, name: `name ${i * 7919 % 1000}`, at: [i, i / 2] }));
    const text = JSON.stringify(records);
    console.log(text.length, crypto.createHash('sha256').update(text).digest('hex'));
    console.log(JSON.parse(text).filter(r => /99$/.test(r.name)).length);
    const packed = await new Promise((yes, no) => zlib.brotliCompress(text, { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 4 } }, (e, r) => e ? no(e) : yes(r)));
    console.log(zlib.brotliDecompressSync(packed).toString() === text);
    const sums = await Promise.all([1, 2, 3, 4].map(n => new Promise((yes, no) =>
        new Worker(__filename, { workerData: n, argv: [String(count)] }).on('message', yes).on('error', no))));
    console.log(sums);
    const keys = await Promise.all([1, 2, 3].map(n => new Promise((yes, no) =>
        crypto.pbkdf2('secret', 'salt' + n, 2000, 32, 'sha256', (e, k) => e ? no(e) : yes(k.toString('hex'))))));
    console.log(keys);
    console.log(execFileSync('sh', ['-c', 'echo child']).toString().trim());
    console.error('to standard error');
    process.exit(7);
})();
JAVASCRIPT
node main.js "$((20000 * ${1:-1}))"
echo "exit $?"
